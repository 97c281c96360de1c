"""One line of JSON for each request, or for some of them: who was asked, how it ended and how long it took."""

from __future__ import annotations

import datetime
import logging
import random
import threading
from pathlib import Path
from typing import Protocol

import orjson

from serving.model_server.errors import Code, abridge

_log = logging.getLogger(__name__)
_FLUSH_SECONDS = 0.5
_MAX_WAITING = 100_000  # lines in memory; more are dropped, and counted


class Observer(Protocol):
    """Is told of every prediction request once it has ended. Called from any thread; must not wait."""

    def __call__(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None: ...


class RequestLog:
    """Appends lines to `path` from a thread of its own, so that no request waits for the disk.

    What was asked and answered is not written: it can be personal. The file is opened for each write, so it may be
    moved away at any time. If it cannot be written, requests go on and the server's log says so.

    Args:
        rate: The share of requests that are logged, drawn at random.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, rate: float = 1.0) -> None:
        path.open("ab").close()
        self._path = path
        self._rate = rate
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._dropped = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="request-log", daemon=True)
        self._thread.start()

    def request(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
        """A request has ended."""
        if self._rate < 1 and random.random() >= self._rate:
            return
        line = orjson.dumps(
            {
                "at": datetime.datetime.now(datetime.UTC),
                "model": abridge(model).encode("utf-8", "replace").decode(),
                "api": api,
                "entrypoint": entrypoint,
                "status": code.name,
                "milliseconds": round(seconds * 1e3, 3),
            },
            option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z,
        )
        with self._lock:
            if len(self._lines) < _MAX_WAITING:
                self._lines.append(line)
            else:
                self._dropped += 1

    def stop(self) -> None:
        """Write what waits."""
        self._stopping.set()
        self._thread.join()

    def _keep_writing(self) -> None:
        while not self._stopping.wait(_FLUSH_SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
            dropped, self._dropped = self._dropped, 0
        if dropped:
            _log.error("%d requests are missing in %s: it is written too slowly.", dropped, self._path)
        if not lines:
            return
        try:
            with self._path.open("ab") as file:
                file.write(b"".join(lines))
        except OSError as error:
            _log.error("%d requests are missing in %s: %s.", len(lines), self._path, error.strerror)
