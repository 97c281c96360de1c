"""Group commit: what is asked for at the same moment is written in one transaction, and answered after it.

A transaction costs a synchronised write to disk, however much it holds (DeWitt et al., SIGMOD 1984).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from serving.events.errors import StoreAway, StoreBusy

_log = logging.getLogger(__name__)
BatchT = TypeVar("BatchT")


class GroupCommit(Generic[BatchT]):
    """A thread that writes what several callers submit.

    Args:
        write: Writes batches in one transaction, and returns a result for each. It raises `StoreAway` where none can
            be written.
        most_waiting: Entries in memory; what is more is refused.
        most_written: Entries in one transaction.
        pause_seconds: From one transaction to the next. 0 writes at once: those who wait for a disk gather meanwhile.
    """

    def __init__(
        self,
        write: Callable[[Sequence[BatchT]], Sequence[Any]],
        *,
        name: str,
        most_waiting: int,
        most_written: int = 5_000,
        pause_seconds: float = 0.0,
    ) -> None:
        self._write = write
        self._most_waiting, self._most_written = most_waiting, most_written
        self._pause = pause_seconds
        self._waiting: deque[tuple[BatchT, int, Future[Any]]] = deque()
        self._entries = 0
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Entries that are not on disk yet."""
        return self._entries

    def submit(self, batch: BatchT, entries: int = 1) -> Future[Any]:
        """The result of a batch, once it is on disk.

        Raises:
            StoreBusy: Too much is waiting, or the store closes.
        """
        future: Future[Any] = Future()
        with self._changed:
            if self._closing.is_set():
                raise StoreBusy("The server is stopping.")
            if self._entries and self._entries + entries > self._most_waiting:
                raise StoreBusy(f"{self._entries} entries are waiting to be written: send this again later.")
            self._waiting.append((batch, entries, future))
            self._entries += entries
            self._changed.notify()
        return future

    def close(self, seconds: float = 30.0) -> None:
        """Take nothing more, and write what is waiting."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing.is_set():
                    self._changed.wait()
                if not self._waiting:
                    return
                group: list[tuple[BatchT, int, Future[Any]]] = []
                size = 0
                while self._waiting and (not group or size + self._waiting[0][1] <= self._most_written):
                    group.append(self._waiting.popleft())
                    size += group[-1][1]
            self._answer(group)
            with self._changed:
                self._entries -= size
            if self._pause:
                self._closing.wait(self._pause)

    def _answer(self, group: list[tuple[BatchT, int, Future[Any]]]) -> None:
        # Whoever gave up before it began need not be written for, but may be: events are idempotent.
        group = [each for each in group if each[2].set_running_or_notify_cancel()]
        if not group:
            return
        try:
            results = self._write([batch for batch, _, _ in group])
        except StoreAway as error:
            for _, _, future in group:
                future.set_exception(error)
        except Exception as error:
            if len(group) == 1:
                group[0][2].set_exception(error)
                return
            # One of them cannot be written: the others are not to suffer from it.
            _log.warning("A group of %d could not be written (%s); each by itself.", len(group), type(error).__name__)
            for batch, _, future in group:
                try:
                    future.set_result(self._write([batch])[0])
                except Exception as alone:
                    future.set_exception(alone)
        else:
            for (_, _, future), result in zip(group, results, strict=True):
                future.set_result(result)
