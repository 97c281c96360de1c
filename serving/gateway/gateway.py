"""The parts of a gateway, put together; what runs beside the requests; and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import orjson

from serving.client import AsyncClient
from serving.events import EventLog, SlateLog, Store, StoreAway, StoreBusy
from serving.events.items import changed_items, put_items, remove_item, trending
from serving.events.keys import KeyRing, list_keys
from serving.events.users import erase, erase_late
from serving.gateway.caches import LocalCache, RedisCache, UserCache
from serving.gateway.catalogue import Catalogue
from serving.gateway.feeds import Ask, Feed
from serving.gateway.guard import Guard
from serving.gateway.live_keeper import LiveKeeper
from serving.gateway.metrics import Metrics
from serving.gateway.model import Model
from serving.gateway.recommender import Recommender
from serving.gateway.settings import Settings
from serving.gateway.users import Users

_log = logging.getLogger(__name__)
_READERS = 4  # of users' states, for requests
_OTHERS = 4  # for what may take longer: erasures, writes, and reading what changed
_CALL_SECONDS = 1.0
_TREND_ITEMS = 2_000
# Until an erasure is gone over again: longer than an answer may be under way, and than replicas take to hear of it.
_ERASED_SECONDS = 10.0
_SWEEP_SECONDS = 1.0
_LIVE_SECONDS = 0.8  # what a PUT waits for its item to be live


class Gateway:
    """For one event loop: `start`, requests, `stop`.

    Args:
        store: Open; the gateway does not close it.
        model_server: As `serving.client.AsyncClient` takes it.
    """

    def __init__(self, settings: Settings, store: Store, model_server: Any) -> None:
        self.settings, self.store = settings, store
        self.metrics = Metrics()
        self.catalogue = Catalogue()
        self.draining = False
        self.synced = False
        self.failure: Exception | None = None  # why it did not start
        self.guard: Guard | None = None
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="states")
        self._threads = ThreadPoolExecutor(_OTHERS, thread_name_prefix="store")
        self.events = EventLog(store, most_waiting=settings.events_waiting)
        self._slates = SlateLog(store, most_waiting=settings.slates_waiting)
        self._client = AsyncClient(model_server, retry=False)
        self.model = Model(
            self._client,
            settings.model,
            self.metrics,
            seconds=max(_CALL_SECONDS, 2 * settings.deadline_ms / 1000),
            batch=settings.batch,
            at_once=settings.calls_at_once,
        )
        redis = settings.redis_url
        self._cache: UserCache = (
            RedisCache(
                redis.get_secret_value(),
                self.metrics,
                settings.redis_ms / 1000,
                longest=max(settings.state_seconds, settings.answer_seconds),
            )
            if redis
            else LocalCache(settings.cached_users)
        )
        users = Users(store, self._cache, settings, self.metrics, self._readers)
        self.recommender = Recommender(self.model, self.catalogue, users, self._cache, settings, self.metrics)
        self.live = LiveKeeper(store, self.catalogue, self.model, self.recommender, settings, self._threads)
        self._erased: dict[str, tuple[float, int]] = {}  # until when, and when by the store's clock
        self._counters: dict[str, int] = {}
        self._syncing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    # Start and stop

    async def start(self) -> None:
        """Read the catalogue and the keys, then keep up with them.

        Raises:
            StoreAway: The database cannot be reached.
        """
        try:
            await self.sync()
            await self._find_trend()
        except Exception as error:
            self.failure = error
            raise
        self.synced = True
        self._tasks = [
            asyncio.create_task(self._repeat(self.sync, self.settings.sync_seconds)),
            asyncio.create_task(self._repeat(self._find_trend, self.settings.trend_seconds)),
            asyncio.create_task(self._repeat(self._read_last_window, self.settings.trend_seconds)),
            asyncio.create_task(self._repeat(self._finish_erasures, _SWEEP_SECONDS)),
            asyncio.create_task(self.live.run()),
        ]

    async def stop(self) -> None:
        """Write what waits to be written; requests have ended by now."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        seconds = float(self.settings.drain_seconds)
        for log in (self.events, self._slates):
            await asyncio.to_thread(log.close, seconds)
        try:
            await self._finish_erasures(time.monotonic() + 2 * _ERASED_SECONDS)
        except StoreAway as error:
            _log.warning("What other replicas wrote late of erased users was not looked for: %s", error)
        await self._client.close()
        await self._cache.close()
        # Whoever reads has a connection in hand, which the store is to close.
        for threads in (self._readers, self._threads):
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)

    async def _repeat(self, work: Any, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except StoreAway as error:
                _log.warning("%s", error)
            except Exception:
                _log.exception("What runs beside the requests failed; trying again.")

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    # What others changed

    async def sync(self) -> None:
        """Take over what has changed in the store: items, keys, erasures."""
        async with self._syncing:
            found = await self._in_thread(self.store.counters)
            before = self._counters
            # First what protects somebody: a catalogue may take long to read, or fail.
            if found["keys"] != before.get("keys") and self.guard is not None:
                self.guard.keys = KeyRing(await self._in_thread(list_keys, self.store))
            if before and found["erasures"] != before["erasures"]:
                # Somebody was erased, and it is not known who.
                await self._cache.clear()
                self.recommender.stale.clear()
            self._counters = found
            if found["items"] > self.catalogue.changed:
                changes = await self._in_thread(changed_items, self.store, self.catalogue.changed)
                self.catalogue.apply(changes)
                # A change of no row, such as a removal of nothing, counts too.
                self.catalogue.changed = max(self.catalogue.changed, found["items"])
                if before:
                    self.live.changed(changes)

    async def _find_trend(self) -> None:
        since = time.time_ns() // 1000 - int(self.settings.trending_hours * 3_600_000_000)
        settings = self.settings
        found = await self._in_thread(
            trending, self.store, since, _TREND_ITEMS, settings.trending_users, settings.positive_rating
        )
        self.catalogue.set_trending([item_id for item_id, _ in found])

    async def _read_last_window(self) -> None:
        await self._in_thread(self.metrics.last_window.refresh, self.store)

    # Requests

    async def append(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Write events, and let what they say count in the next feed; how many were new.

        Raises:
            StoreAway, StoreBusy: None was written.
        """
        try:
            new = await asyncio.wrap_future(self.events.append(events))
        except (StoreAway, StoreBusy):
            self.metrics.events.labels("refused").inc(len(events))
            raise
        self.metrics.events.labels("new").inc(new)
        self.metrics.events.labels("known").inc(len(events) - new)
        wanted = [event for event in events if event["kind"] != "impression"]
        await self._cache.drop(list({event["user_id"] for event in wanted}))
        for event in wanted:
            self.recommender.stale.saw(event["user_id"], {event["item_id"]})
        return new

    def record(self, ask: Ask, feed: Feed, request_id: str) -> None:
        """Log a slate, unless too many are waiting."""
        if ask.user_id in self._erased:
            return
        slate = {
            "request_id": request_id,
            "user_id": ask.user_id,
            "at": time.time_ns() // 1000,
            "placement": ask.placement,
            "model": self.settings.model,
            "version": feed.version,
            "variant": self.settings.variant,
            "fallback": feed.fallback,
            "language": ask.language,
            "device": ask.device or None,
            # Each item with its propensity, 1: see `serving.events.tables.SLATES`.
            "items": orjson.dumps(
                [[each.item_id, each.score, place, 1.0, each.reason] for place, each in enumerate(feed.items)]
            ).decode(),
        }
        try:
            self._slates.append(slate).add_done_callback(self._dropped)
        except StoreBusy:
            self.metrics.slates_dropped.inc()

    def _dropped(self, future: Future[None]) -> None:
        if future.exception() is not None:
            self.metrics.slates_dropped.inc()

    async def put(self, items: Sequence[Mapping[str, Any]]) -> tuple[int, bool]:
        """Store items; the number of the change, and whether a single one is live already.

        Raises:
            StoreAway: None was stored.
        """
        changed = await self._in_thread(put_items, self.store, items, time.time_ns() // 1000)
        await self.sync()
        if len(items) > 1 or not self.settings.live_items:
            return changed, False
        return changed, await self.live.embedded(items[0]["item_id"], changed, _LIVE_SECONDS)

    async def remove(self, item_id: str) -> None:
        """Take an item off offer.

        Raises:
            StoreAway: Nothing was changed.
        """
        await self._in_thread(remove_item, self.store, item_id, time.time_ns() // 1000)
        await self.sync()

    async def erase(self, user_id: str) -> int:
        """Erase a user; how many rows there were.

        Raises:
            StoreAway, StoreBusy: Nothing was erased but what is cached, or not all: ask again.
        """
        # An answer under way leaves no slate behind.
        self._erased[user_id] = time.monotonic() + _ERASED_SECONDS, time.time_ns() // 1000
        # What was taken before is written before, and then erased.
        await asyncio.wrap_future(self.events.append([]))
        await asyncio.wrap_future(self._slates.flush())
        try:
            return int(await self._in_thread(erase, self.store, user_id))
        finally:
            await self._cache.forget(user_id)
            self.recommender.stale.forget(user_id)

    async def _finish_erasures(self, now: float | None = None) -> None:
        """Go over erasures again, whose time is over at `now`: other replicas may have written meanwhile."""
        now = time.monotonic() if now is None else now
        for user_id, (until, at) in list(self._erased.items()):
            if until <= now:
                await self._in_thread(erase_late, self.store, user_id, at)
                # Unless they were erased once more meanwhile.
                if self._erased.get(user_id) == (until, at):
                    del self._erased[user_id]

    def ready(self) -> bool:
        """Whether requests may come: even without a model there are fallbacks."""
        return self.synced and not self.draining

    def gauge(self) -> None:
        """Bring up to date what is not counted as it happens."""
        metrics, live = self.metrics, self.recommender.live
        metrics.items.set(len(self.catalogue))
        metrics.live.set(len(live) if live is not None else 0)
        metrics.events_waiting.set(self.events.waiting)
        metrics.version.set(self.model.version.number if self.model.version else 0)
        metrics.breaker.set(self.model.breaker.is_open)
