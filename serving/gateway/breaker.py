"""A circuit breaker (Nygard, Release It!, 2007): what is dead is not asked for each request."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Opens after `failures` in a row; then one try each `retry_seconds` says whether it may close.

    Args:
        clock: Seconds, for tests.
    """

    def __init__(
        self, *, failures: int = 3, retry_seconds: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._retry = failures, retry_seconds
        self._clock = clock
        self._failures = 0
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self._limit

    def allows(self) -> bool:
        """Whether to ask. Where it is open, the one that is let through is the try."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._next_try:
            return False
        self._next_try = now + self._retry
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        if self._failures == self._limit:
            self._next_try = self._clock() + self._retry
