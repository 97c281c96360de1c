"""How many loads, or unloads, of all models together run at once."""

from __future__ import annotations

import threading


class Slots:
    """A semaphore whose size can change: many at the start, when nothing is served yet, few afterwards."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._changed = threading.Condition()

    def resize(self, size: int) -> None:
        """From now on at most `size` at once; those beyond it finish."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._size)
            self._taken += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify()
