"""One served model: finds new versions, loads them, switches to them and lets go of the old ones."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from serving.model_server.errors import Code, ServingError
from serving.model_server.versions import State, VersionStatus, fingerprint, is_complete, scan

_log = logging.getLogger(__name__)
_ENDED_KEPT = 100  # ended versions that stay listed; a server lives for years


class Closeable(Protocol):
    """What a loader returns: something that gives its memory back when asked."""

    def close(self) -> None: ...


ModelT = TypeVar("ModelT", bound=Closeable)


@dataclass
class _Version(Generic[ModelT]):
    number: int
    state: State = State.START
    model: ModelT | None = None
    leases: int = 0
    error: ServingError | None = None
    attempts: int = 0
    retry_at: float = 0.0
    mark: Hashable = None

    @property
    def unused(self) -> bool:
        """Retired, and no request is on it any more."""
        return self.state is State.UNLOADING and self.leases == 0

    def status(self) -> VersionStatus:
        if self.error is None:
            return VersionStatus(self.number, self.state)
        return VersionStatus(self.number, self.state, self.error.code, self.error.message)


class ServedModel(Generic[ModelT]):
    """Keeps the newest loadable version of a model available (policy: latest, one).

    A newer version is loaded completely before requests go to it; requests on the old one finish before it is
    closed. A version that fails to load never replaces one that serves. The versions on disk decide: deleting the
    newest goes back to the one before, deleting all unloads, and a base path that cannot be read changes nothing.
    A version whose files change in place after it was loaded is not loaded again.
    """

    def __init__(
        self,
        name: str,
        base_path: Path,
        load: Callable[[Path], ModelT],
        *,
        poll_wait_seconds: float = 1.0,
        max_load_retries: int = 5,
        load_retry_interval_seconds: float = 60.0,
    ) -> None:
        self.name = name
        self._base_path = base_path
        self._load = load
        self._poll_wait_seconds = poll_wait_seconds
        self._max_retries = max_load_retries
        self._retry_seconds = load_retry_interval_seconds
        self._lock = threading.Lock()  # guards states, leases and the newest number; never held while loading
        self._versions: dict[int, _Version[ModelT]] = {}
        self._newest: int | None = None
        self._complaint = ""
        self._wake = threading.Event()
        self._stopping = False
        self._polled = threading.Event()
        self._thread = threading.Thread(target=self._keep_polling, name=f"versions-of-{name}", daemon=True)

    # Requests

    @contextmanager
    def lease(self, version: int | None = None) -> Iterator[tuple[int, ModelT]]:
        """Hold a version (the newest by default) so that it is not closed during a request.

        Raises:
            ServingError: NOT_FOUND, no such version is available.
        """
        with self._lock:
            number = self._newest if version is None else version
            entry = None if number is None else self._versions.get(number)
            if entry is None or entry.state is not State.AVAILABLE or entry.model is None:
                wanted = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
                raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
            entry.leases += 1
            model = entry.model
        try:
            yield entry.number, model
        finally:
            with self._lock:
                entry.leases -= 1
                unused = entry.unused
            if unused:
                self._wake.set()

    def statuses(self) -> list[VersionStatus]:
        """Every version seen since the start, newest first."""
        with self._lock:
            return [self._versions[number].status() for number in sorted(self._versions, reverse=True)]

    @property
    def available(self) -> bool:
        return self._newest is not None

    # Start and stop

    def start(self) -> None:
        """Begin to look for versions in a thread of its own."""
        self._thread.start()

    def wait(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Block until a version is available, or `cancelled` says to give up.

        An empty base path means waiting for the first version.

        Raises:
            ServingError: Every version there is has failed to load, or nothing is there and nobody looks again.
        """
        while not self.available and not cancelled():
            alive = self._thread.is_alive()  # read before the states, which the thread's last poll may change
            self._polled.wait(0.1)
            self._polled.clear()
            statuses = self.statuses()
            failed = [status for status in statuses if status.code is not Code.OK]
            if self.available:
                return
            if failed and all(status.state is State.END for status in statuses):
                raise ServingError(
                    failed[0].code,
                    f"Version {failed[0].version} of model {self.name} failed to load: {failed[0].message}",
                )
            if not alive:
                raise ServingError(Code.NOT_FOUND, f"No version of model {self.name} was found in {self._base_path}.")

    def stop(self, drain_seconds: float = 30.0) -> None:
        """Unload everything. Requests in flight get `drain_seconds`; a version still in use then stays open."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()  # a load under way ends first: TensorFlow cannot be interrupted
        deadline = time.monotonic() + drain_seconds
        self._retire(lambda number: True)
        while not self._reap() and time.monotonic() < deadline:
            self._wake.wait(0.05)
            self._wake.clear()

    # Versions

    def _keep_polling(self) -> None:
        while not self._stopping:
            try:
                self.poll()
            except Exception:
                _log.exception("Looking for versions of %s failed; trying again.", self.name)
            self._polled.set()
            if self._poll_wait_seconds == 0 and not self._retries_left():
                return
            self._wake.wait(self._poll_wait_seconds or 1.0)
            self._wake.clear()

    def poll(self) -> None:
        """Look at the base path once and act on what is there."""
        self._reap()
        found = scan(self._base_path)
        if found is None:
            self._complain(f"The base path {self._base_path} cannot be read; nothing changes until it can.")
            return
        if not found:
            self._complain(f"No version of {self.name} in {self._base_path}: versions are folders named 1, 2, ...")
        with self._lock:
            for number in [n for n, entry in self._versions.items() if n not in found and entry.model is None]:
                entry = self._versions[number]
                if entry.state is State.START:
                    del self._versions[number]  # it never became a version
                else:
                    entry.state = State.END
        target = next((number for number in sorted(found, reverse=True) if self._make_available(found, number)), None)
        if target is not None:
            self._complaint = ""
            self._retire(lambda number: number != target)
        elif not found:
            self._retire(lambda number: True)
        self._forget_old(found)
        self._reap()

    def _make_available(self, found: dict[int, Path], number: int) -> bool:
        """Whether version `number` serves, after loading it if that is due."""
        path = found[number]
        with self._lock:
            entry = self._versions.get(number)
            if entry is not None and entry.state is State.AVAILABLE:
                return True
            if entry is not None and entry.state is State.UNLOADING:
                return False  # it came back before its last request ended; the next poll loads it
            if entry is None or (entry.state is State.END and entry.error is None):
                entry = self._versions[number] = _Version(number)
        if self._stopping:
            return False
        if not is_complete(path):
            self._complain(f"Version {number} of {self.name} has no saved_model.pb yet; waiting for it.")
            return False
        mark = fingerprint(path)
        if mark != entry.mark:
            entry.attempts = 0
        elif entry.attempts > self._max_retries or time.monotonic() < entry.retry_at:
            return False
        entry.mark = mark
        return self._try_load(entry, path)

    def _try_load(self, entry: _Version[ModelT], path: Path) -> bool:
        with self._lock:
            entry.state = State.LOADING
        _log.info("Loading version %d of %s from %s.", entry.number, self.name, path)
        started = time.monotonic()
        try:
            model = self._load(path)
        except ServingError as error:
            entry.attempts += 1
            entry.retry_at = time.monotonic() + self._retry_seconds
            with self._lock:
                entry.error = error
                entry.state = State.LOADING if entry.attempts <= self._max_retries else State.END
            _log.error(
                "Version %d of %s failed to load (attempt %d of %d): %s",
                entry.number,
                self.name,
                entry.attempts,
                self._max_retries + 1,
                error.message,
            )
            return False
        with self._lock:
            entry.model, entry.error, entry.state = model, None, State.AVAILABLE
            self._newest = self._newest_available()
        _log.info("Version %d of %s is available after %.1f s.", entry.number, self.name, time.monotonic() - started)
        return True

    def _retire(self, condition: Callable[[int], bool]) -> None:
        """Send no more requests to the versions that meet the condition."""
        with self._lock:
            for entry in self._versions.values():
                if entry.state is State.AVAILABLE and condition(entry.number):
                    entry.state = State.UNLOADING
            self._newest = self._newest_available()

    def _reap(self) -> bool:
        """Close retired versions that no request uses any more. Returns whether none is left."""
        with self._lock:
            retired = [entry for entry in self._versions.values() if entry.state is State.UNLOADING]
            idle = [entry for entry in retired if entry.unused]
        for entry in idle:
            if entry.model is not None:
                entry.model.close()
            with self._lock:
                entry.model, entry.state, entry.mark = None, State.END, None
            _log.info("Version %d of %s is unloaded.", entry.number, self.name)
        return len(idle) == len(retired)

    def _newest_available(self) -> int | None:
        return max((n for n, entry in self._versions.items() if entry.state is State.AVAILABLE), default=None)

    def _retries_left(self) -> bool:
        with self._lock:
            return any(entry.state is State.LOADING for entry in self._versions.values())

    def _forget_old(self, found: dict[int, Path]) -> None:
        with self._lock:
            ended = [n for n, entry in self._versions.items() if entry.state is State.END and n not in found]
            for number in sorted(ended)[:-_ENDED_KEPT]:
                del self._versions[number]

    def _complain(self, sentence: str) -> None:
        # Once, not at every poll.
        if sentence != self._complaint:
            self._complaint = sentence
            _log.warning("%s", sentence)
