"""Looks at the model config file again and again, and applies what it says once it has changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from serving.model_server.errors import ServingError
from serving.model_server.model_config import ModelConfig, read_model_configs

_log = logging.getLogger(__name__)


class ConfigWatch:
    """Polls `path` in a thread of its own until `stop`.

    A file that cannot be read or applied is logged once and tried again at every look: a label may name a version
    that still loads. What a reload request asked for stays until the file changes.

    Args:
        applied: What the file held before it was read for the first time: it may have changed since.
    """

    def __init__(
        self,
        path: Path,
        apply: Callable[[Sequence[ModelConfig], Callable[[], bool]], None],
        poll_seconds: float,
        applied: bytes | None,
    ) -> None:
        self._path = path
        self._apply = apply
        self._poll_seconds = poll_seconds
        self._applied = applied
        self._complaint = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="model-config-file", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep_looking(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            try:
                self.look()
            except Exception:
                _log.exception("Reading %s failed; trying again.", self._path)

    def look(self) -> None:
        """Apply the file if it differs from what was applied last."""
        content = read_content(self._path)
        if content == self._applied:
            self._complaint = ""
            return
        try:
            # A model that never becomes available is given up once the file is mended.
            self._apply(
                read_model_configs(self._path), lambda: self._stopping.is_set() or read_content(self._path) != content
            )
        except ServingError as error:
            if error.message != self._complaint and not self._stopping.is_set():
                _log.error("%s is not applied: %s", self._path, error.message)
                self._complaint = error.message
            return
        self._applied, self._complaint = content, ""
        _log.info("%s is applied.", self._path)


def read_content(path: Path) -> bytes | None:
    """What the file holds, or None while it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None
