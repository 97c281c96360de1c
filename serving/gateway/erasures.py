"""Erasing users for good, although answers are under way and other replicas write on for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from serving.events import EventLog, SlateLog, Store
from serving.events.users import Erased, erase, erase_late
from serving.gateway.caches import UserCache
from serving.gateway.feeds import StaleFeeds

# Until an erasure is gone over again: longer than an answer may be under way, and than replicas take to hear of it.
ERASED_SECONDS = 10.0
_MOST_PAUSE = 16.0  # seconds between attempts to empty a log that somebody reads


class Erasures:
    """For one event loop.

    Args:
        in_thread: Runs what blocks.
    """

    def __init__(
        self,
        store: Store,
        events: EventLog,
        slates: SlateLog,
        cache: UserCache,
        stale: StaleFeeds,
        in_thread: Callable[..., Awaitable[Any]],
    ) -> None:
        self._store, self._events, self._slates = store, events, slates
        self._cache, self._stale, self._in_thread = cache, stale, in_thread
        self._erased: dict[str, tuple[float, int]] = {}  # until when, and when by the store's clock
        # Whether SQLite's log may still hold something of somebody: also of the time before a kill.
        self._old_pages = True
        self._pause, self._again = 1.0, 0.0  # how long after an attempt in vain, and when

    def __contains__(self, user_id: str) -> bool:
        """Whether nothing is to be recorded of a user at the moment."""
        return user_id in self._erased

    async def erase(self, user_id: str, at: int) -> Erased:
        """Erase a user at `at` (microseconds since 1970). Where that is not complete, `finish` goes on with it.

        Raises:
            StoreAway, StoreBusy: Nothing was erased but what is cached: ask again.
        """
        # An answer under way leaves no slate behind.
        self._erased[user_id] = time.monotonic() + ERASED_SECONDS, at
        # What was taken before is written before, and then erased.
        await asyncio.wrap_future(self._events.append([]))
        await asyncio.wrap_future(self._slates.flush())
        try:
            return self._noted(await self._in_thread(erase, self._store, user_id))
        finally:
            await self._cache.forget(user_id)
            self._stale.forget(user_id)

    async def forget_all(self) -> None:
        """Somebody was erased by another replica, and it is not known who."""
        await self._cache.clear()
        self._stale.clear()

    async def finish(self, now: float | None = None) -> None:
        """Go over erasures again, whose time is over at `now`: other replicas may have written meanwhile."""
        now = time.monotonic() if now is None else now
        for user_id, (until, at) in list(self._erased.items()):
            if until <= now:
                self._noted(await self._in_thread(erase_late, self._store, user_id, at))
                # Unless they were erased once more meanwhile.
                if self._erased.get(user_id) == (until, at):
                    del self._erased[user_id]
        if self._old_pages and now >= self._again:
            self._old_pages = not await self._in_thread(self._store.forget_old_pages)
            self._again = now + self._pause if self._old_pages else 0.0
            self._pause = min(2 * self._pause, _MOST_PAUSE) if self._old_pages else 1.0

    def _noted(self, erased: Erased) -> Erased:
        self._old_pages = self._old_pages or not erased.complete
        return erased
