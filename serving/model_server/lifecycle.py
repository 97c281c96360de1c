"""One served model: finds new versions, loads them, switches to them and lets go of the old ones."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Generic

from serving.model_server.errors import Code, ServingError
from serving.model_server.model_config import VersionPolicy
from serving.model_server.version_table import ModelT, Version, VersionTable
from serving.model_server.versions import State, VersionStatus, fingerprint, is_complete, scan

_log = logging.getLogger(__name__)


class ServedModel(Generic[ModelT]):
    """Keeps the versions that the policy wants available (by default the newest that loads).

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
        policy: VersionPolicy = VersionPolicy(),
        poll_wait_seconds: float = 1.0,
        max_load_retries: int = 5,
        load_retry_interval_seconds: float = 60.0,
        load_slots: AbstractContextManager[object] | None = None,
        unload_slots: AbstractContextManager[object] | None = None,
    ) -> None:
        self.name = name
        self._asked = (base_path, policy, True)
        self._load = load
        self._poll_wait_seconds = poll_wait_seconds
        self._max_retries = max_load_retries
        self._retry_seconds = load_retry_interval_seconds
        self._load_slots = load_slots or nullcontext()
        self._unload_slots = unload_slots or nullcontext()
        self._wake = threading.Event()
        self._versions: VersionTable[ModelT] = VersionTable(name, self._wake.set)
        self._complaints: tuple[set[str], set[str]] = (set(), set())  # of the poll before, of this one
        self._stopping = False
        self._look_again = threading.Event()  # even if `poll_wait_seconds` says once
        self._looked = threading.Condition()
        self._asked_for = self._done = 0  # changes of what is asked for, and how many of them a whole poll has seen
        self._thread = threading.Thread(target=self._keep_polling, name=f"versions-of-{name}", daemon=True)

    # Requests

    def lease(self, version: int | None = None) -> AbstractContextManager[tuple[int, ModelT]]:
        """Hold a version (the newest by default) so that it is not closed during a request.

        Raises:
            ServingError: NOT_FOUND, no such version is available.
        """
        return self._versions.lease(version)

    def statuses(self) -> list[VersionStatus]:
        """Every version seen since the start, newest first."""
        return self._versions.statuses()

    @property
    def available(self) -> bool:
        return self._versions.newest is not None

    # Start, change and stop

    def start(self) -> None:
        """Begin to look for versions in a thread of its own."""
        self.change(*self._asked)
        self._thread.start()

    def change(self, base_path: Path, policy: VersionPolicy, retires: bool = True) -> None:
        """Ask for other versions from now on. A version that serves is not loaded again from another base path.

        Args:
            retires: Whether versions that are not asked for go; else all that serve stay until the next change.
        """
        with self._looked:
            self._asked = (base_path, policy, retires)
            self._asked_for += 1
        self._look_again.set()
        self._wake.set()

    def wait(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Block until what was asked for last has been tried and a version is available, or `cancelled` says give up.

        An empty base path means waiting for the first version.

        Raises:
            ServingError: Every version there is has failed to load, or nothing is there and nobody looks again.
        """
        while not cancelled():
            with self._looked:
                if not self._looked.wait_for(lambda: self._done == self._asked_for, 0.1):
                    continue
            ends = not self._looks_again  # read before the states, which the next poll may change
            statuses = self.statuses()
            if self.available:
                return
            failed = [status for status in statuses if status.code is not Code.OK]
            if failed and all(status.state is State.END for status in statuses):
                raise ServingError(
                    failed[0].code,
                    f"Version {failed[0].version} of model {self.name} failed to load: {failed[0].message}",
                )
            if ends:
                raise ServingError(Code.NOT_FOUND, f"No version of model {self.name} was found in {self._asked[0]}.")
            with self._looked:
                self._looked.wait(0.1)

    def stop(self, drain_seconds: float = 30.0) -> None:
        """Unload everything. Requests in flight get `drain_seconds`; a version still in use then stays open."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()  # a load under way ends first: TensorFlow cannot be interrupted
        deadline = time.monotonic() + drain_seconds
        self._versions.retire(lambda number: True)
        while not self._versions.reap(self._unload_slots) and time.monotonic() < deadline:
            self._wake.wait(0.05)
            self._wake.clear()

    # Versions

    @property
    def _looks_again(self) -> bool:
        return self._poll_wait_seconds > 0 or self._versions.loading

    def _keep_polling(self) -> None:
        while not self._stopping:
            if self._looks_again or self._look_again.is_set():
                self._look_again.clear()
                asked_for = self._asked_for
                try:
                    self.poll()
                except Exception:
                    _log.exception("Looking for versions of %s failed; trying again.", self.name)
                with self._looked:
                    self._done = asked_for
                    self._looked.notify_all()
            else:
                self._versions.reap(self._unload_slots)
            self._wake.wait((self._poll_wait_seconds or 1.0) if self._looks_again else None)
            self._wake.clear()

    def poll(self) -> None:
        """Look at the base path once and act on what is there."""
        self._complaints = (self._complaints[1], set())
        self._versions.reap(self._unload_slots)
        base_path, policy, retires = self._asked
        found = scan(base_path)
        if found is None:
            self._complain(f"The base path {base_path} cannot be read; nothing changes until it can.")
            return
        if not found:
            self._complain(f"No version of {self.name} in {base_path}: versions are folders named 1, 2, ...")
        for number in sorted((policy.specific or frozenset()) - found.keys()):
            self._complain(f"Version {number} of {self.name} is asked for but is not in {base_path}.")
        self._versions.forget_missing(found)
        kept = policy.choose(found, lambda number: self._make_available(found[number], number))
        if not retires:
            return
        if kept:
            self._versions.retire(lambda number: number not in kept)
        elif not policy.choose(found, lambda number: True):
            # Nothing here is wanted. What is still on disk goes on serving until something wanted is there.
            self._versions.retire(lambda number: number not in found)
        self._versions.reap(self._unload_slots)

    def _make_available(self, path: Path, number: int) -> bool:
        """Whether version `number` serves, after loading it if that is due."""
        entry = self._versions.entry(number)
        if entry.state is State.AVAILABLE:
            return True
        if entry.state is State.UNLOADING or self._stopping:
            return False  # unloading: it came back before its last request ended; the next poll loads it
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

    def _try_load(self, entry: Version[ModelT], path: Path) -> bool:
        self._versions.begin(entry)
        with self._load_slots:
            _log.info("Loading version %d of %s from %s.", entry.number, self.name, path)
            started = time.monotonic()
            try:
                model = self._load(path)
            except Exception as failure:
                error = failure if isinstance(failure, ServingError) else _unforeseen(failure)
                entry.attempts += 1
                entry.retry_at = time.monotonic() + self._retry_seconds
                self._versions.failed(entry, error, again=entry.attempts <= self._max_retries)
                _log.error(
                    "Version %d of %s failed to load (attempt %d of %d): %s",
                    entry.number,
                    self.name,
                    entry.attempts,
                    self._max_retries + 1,
                    error.message,
                    exc_info=None if error is failure else failure,
                )
                return False
        self._versions.loaded(entry, model)
        _log.info("Version %d of %s is available after %.1f s.", entry.number, self.name, time.monotonic() - started)
        return True

    def _complain(self, sentence: str) -> None:
        # Once, not at every poll.
        before, now = self._complaints
        if sentence not in before:
            _log.warning("%s", sentence)
        now.add(sentence)


def _unforeseen(failure: Exception) -> ServingError:
    return ServingError(Code.INTERNAL, f"{type(failure).__name__}: {failure}")
