"""A model's versions in memory: their states, the requests on each, and which is the newest that serves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from serving.model_server.errors import Code, ServingError
from serving.model_server.versions import State, VersionStatus

_log = logging.getLogger(__name__)
_ENDED_KEPT = 100  # ended versions that stay listed; a server lives for years


class Closeable(Protocol):
    """What a loader returns: something that gives its memory back when asked."""

    def close(self) -> None: ...


ModelT = TypeVar("ModelT", bound=Closeable)


@dataclass
class Version(Generic[ModelT]):
    """One version's state; the table's lock guards it."""

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


class VersionTable(Generic[ModelT]):
    """The versions of the model `name`. `freed` is called when a retired version's last request has ended."""

    def __init__(self, name: str, freed: Callable[[], None]) -> None:
        self._name = name
        self._freed = freed
        self._lock = threading.Lock()  # guards states, leases and the newest number; never held while loading
        self._versions: dict[int, Version[ModelT]] = {}
        self.newest: int | None = None

    @contextmanager
    def lease(self, version: int | None = None) -> Iterator[tuple[int, ModelT]]:
        """See `ServedModel.lease`."""
        with self._lock:
            number = self.newest if version is None else version
            entry = None if number is None else self._versions.get(number)
            if entry is None or entry.state is not State.AVAILABLE or entry.model is None:
                wanted = f"Latest({self._name})" if version is None else f"Specific({self._name}, {version})"
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
                self._freed()

    def statuses(self) -> list[VersionStatus]:
        """Every version seen since the start, newest first."""
        with self._lock:
            return [self._versions[number].status() for number in sorted(self._versions, reverse=True)]

    def entry(self, number: int) -> Version[ModelT]:
        """The version's entry, a new one if it has ended well or was never seen."""
        with self._lock:
            entry = self._versions.get(number)
            if entry is None or (entry.state is State.END and entry.error is None):
                entry = self._versions[number] = Version(number)
            return entry

    def begin(self, entry: Version[ModelT]) -> None:
        """The entry's load has begun."""
        with self._lock:
            entry.state = State.LOADING

    def failed(self, entry: Version[ModelT], error: ServingError, *, again: bool) -> None:
        """The entry's load failed; `again` if it will be retried."""
        with self._lock:
            entry.error = error
            entry.state = State.LOADING if again else State.END

    def loaded(self, entry: Version[ModelT], model: ModelT) -> None:
        """The entry serves from now on."""
        with self._lock:
            entry.model, entry.error, entry.state = model, None, State.AVAILABLE
            self.newest = self._newest_available()

    def retire(self, condition: Callable[[int], bool]) -> None:
        """Send no more requests to the versions that meet the condition."""
        with self._lock:
            for entry in self._versions.values():
                if entry.state is State.AVAILABLE and condition(entry.number):
                    entry.state = State.UNLOADING
            self.newest = self._newest_available()

    def reap(self, slot: AbstractContextManager[object] | None = None) -> bool:
        """Close retired versions that no request uses any more, each in a `slot`. Returns whether none is left."""
        with self._lock:
            retired = [entry for entry in self._versions.values() if entry.state is State.UNLOADING]
            idle = [entry for entry in retired if entry.unused]
        for entry in idle:
            with slot or nullcontext():
                if entry.model is not None:
                    entry.model.close()
            with self._lock:
                entry.model, entry.state, entry.mark = None, State.END, None
            _log.info("Version %d of %s is unloaded.", entry.number, self._name)
        return len(idle) == len(retired)

    def forget_missing(self, found: Collection[int]) -> None:
        """Versions that are gone from disk and hold no model have ended; of those, the newest stay listed."""
        with self._lock:
            for number in [n for n, entry in self._versions.items() if n not in found and entry.model is None]:
                if self._versions[number].state is State.START:
                    del self._versions[number]  # it never became a version
                else:
                    self._versions[number].state = State.END
            ended = [n for n, entry in self._versions.items() if entry.state is State.END and n not in found]
            for number in sorted(ended)[:-_ENDED_KEPT]:
                del self._versions[number]

    @property
    def loading(self) -> bool:
        """Whether a load is under way or will be tried again."""
        with self._lock:
            return any(entry.state is State.LOADING for entry in self._versions.values())

    def _newest_available(self) -> int | None:
        return max((n for n, entry in self._versions.items() if entry.state is State.AVAILABLE), default=None)
