"""The parts of a gateway, put together; what runs beside the requests; and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson

from serving.client import AsyncClient
from serving.events import EventLog, SlateLog, Store, StoreAway, StoreBusy
from serving.events.items import changed_items, put_items, remove_item, trending
from serving.events.keys import KeyRing, list_keys
from serving.experiments.declaration import BadExperiment
from serving.experiments.records import list_experiments
from serving.gateway.assignments import Assignments
from serving.gateway.caches import LocalCache, RedisCache, UserCache
from serving.gateway.catalogue import Catalogue
from serving.gateway.clock import Clock, wall_clock
from serving.gateway.erasures import ERASED_SECONDS, Erasures
from serving.gateway.feeds import Ask, Feed, Shown
from serving.gateway.guard import Guard
from serving.gateway.live_keeper import LiveKeeper
from serving.gateway.metrics import Metrics
from serving.gateway.model import Model
from serving.gateway.models import Models
from serving.gateway.recommender import Recommender
from serving.gateway.settings import Settings
from serving.gateway.users import Users
from serving.gateway.version_book import VersionBook

_log = logging.getLogger(__name__)
_READERS = 4  # of users' states, for requests
_OTHERS = 4  # for what may take longer: erasures, writes, and reading what changed
_CALL_SECONDS = 1.0
_TREND_ITEMS = 2_000
_SWEEP_SECONDS = 1.0
_VISIT_SECONDS = 5.0
_LIVE_SECONDS = 0.8  # what a PUT waits for its item to be live
_CHANGES_AT_ONCE = 500  # a few milliseconds


class Gateway:
    """For one event loop: `start`, requests, `stop`.

    Args:
        store: Open; the gateway does not close it.
        model_server: As `serving.client.AsyncClient` takes it.
        clock: What time it is for whatever is stored or shown.
        versions: Who knows which versions of the model there are; None where nobody does.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        model_server: Any,
        clock: Clock = wall_clock,
        versions: VersionBook | None = None,
    ) -> None:
        self.settings, self.store, self.now, self.versions = settings, store, clock, versions
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
        self.models = Models(self._model, settings.label)
        self.assignments = Assignments([], settings)
        self.recommender = Recommender(
            self.models, self.catalogue, users, self._cache, settings, self.metrics, self.now
        )
        self.erasures = Erasures(store, self.events, self._slates, self._cache, self.recommender.stale, self.in_thread)
        self._counters: dict[str, int] = {}
        self._syncing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def _model(self, label: str) -> tuple[Model, LiveKeeper]:
        settings = self.settings
        model = Model(
            self._client,
            settings.model,
            self.metrics,
            label=label,
            seconds=max(_CALL_SECONDS, 2 * settings.deadline_ms / 1000),
            batch=settings.batch,
            at_once=settings.calls_at_once,
        )
        return model, LiveKeeper(self.store, self.catalogue, model, settings, self._threads, self.now)

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
            asyncio.create_task(self._repeat(self.erasures.finish, _SWEEP_SECONDS)),
        ]
        self.models.start()

    async def stop(self) -> None:
        """Write what waits to be written; requests have ended by now."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.models.stop()
        seconds = float(self.settings.drain_seconds)
        for log in (self.events, self._slates):
            await asyncio.to_thread(log.close, seconds)
        try:
            await self.erasures.finish(time.monotonic() + 2 * ERASED_SECONDS)
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

    async def in_thread(self, function: Any, *arguments: Any, **named: Any) -> Any:
        """Run what blocks."""
        function = partial(function, **named)
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    # What others changed

    async def sync(self) -> None:
        """Take over what has changed in the store: items, keys, erasures, experiments."""
        async with self._syncing:
            found = await self.in_thread(self.store.counters)
            before = self._counters
            # First what protects somebody: a catalogue may take long to read, or fail.
            if found["keys"] != before.get("keys") and self.guard is not None:
                self.guard.keys = KeyRing(await self.in_thread(list_keys, self.store))
            if before and found["erasures"] != before["erasures"]:
                await self.erasures.forget_all()
            if found["experiments"] != before.get("experiments", 0):
                await self._take_up_experiments()
            else:
                await self.models.settle()
            self._counters = found
            if found["items"] > self.catalogue.changed:
                changes = await self.in_thread(changed_items, self.store, self.catalogue.changed)
                # In slices, between which others are answered: an import changes many thousands.
                for start in range(0, len(changes), _CHANGES_AT_ONCE):
                    self.catalogue.apply(changes[start : start + _CHANGES_AT_ONCE])
                    await asyncio.sleep(0)
                # A change of no row, such as a removal of nothing, counts too.
                self.catalogue.changed = max(self.catalogue.changed, found["items"])
                if before:
                    self.models.changed(changes)

    async def visit(self, label: str) -> None:
        """Ask the version of a label too, for some minutes; returns when it answers, or after a moment.

        Raises:
            ClientError: There is no such version, or the server gives no answer.
        """
        if label == self.settings.label:
            return
        if self.models.of(label) is self.models.default:
            await self._client.resolve(self.settings.model, label=label, timeout=_CALL_SECONDS)
        async with self._syncing:
            await self.models.visit(label)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_VISIT_SECONDS):
                while self.models.of(label) is self.models.default:
                    await asyncio.sleep(0.05)

    async def _take_up_experiments(self) -> None:
        try:
            running = await self.in_thread(list_experiments, self.store, running=True)
            self.assignments = Assignments([each.experiment for each in running], self.settings)
        except BadExperiment as error:
            # Such as one that a newer gateway has started. Items and keys are not to wait for this one's update.
            _log.warning("Experiments stay as they were, since one cannot be read: %s", error)
        else:
            await self.models.want(self.assignments.labels)

    async def _find_trend(self) -> None:
        since = self.now() - int(self.settings.trending_hours * 3_600_000_000)
        settings = self.settings
        found = await self.in_thread(
            trending, self.store, since, _TREND_ITEMS, settings.trending_users, settings.positive_rating
        )
        self.catalogue.set_trending([item_id for item_id, _ in found])

    async def _read_last_window(self) -> None:
        await self.in_thread(self.metrics.last_window.refresh, self.store)

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

    def record(self, ask: Ask, feed: Feed, request_id: str, variant: str, seconds: float) -> None:
        """Log a slate, unless too many are waiting.

        Args:
            seconds: From the request to the answer.
        """
        if ask.user_id in self.erasures:
            return
        slate = {
            "request_id": request_id,
            "user_id": ask.user_id,
            "at": self.now(),
            "placement": ask.placement,
            "model": self.settings.model,
            "version": feed.version,
            "variant": variant,
            "fallback": feed.fallback,
            "language": ask.language,
            "device": ask.device or None,
            "items": orjson.dumps([_logged(place, each) for place, each in enumerate(feed.items)]).decode(),
            "latency_ms": round(seconds * 1000, 3),
        }
        try:
            self._slates.append(slate).add_done_callback(self._dropped)
        except StoreBusy:
            self.metrics.slates_dropped.inc()

    def flush_slates(self, seconds: float) -> None:
        """Wait in another thread until the slates of all answers so far are written, or dropped."""
        self._slates.flush().result(seconds)

    def _dropped(self, future: Future[None]) -> None:
        if future.exception() is not None:
            self.metrics.slates_dropped.inc()

    async def put(self, items: Sequence[Mapping[str, Any]]) -> tuple[int, bool]:
        """Store items; the number of the change, and whether a single one is live already.

        Raises:
            StoreAway: None was stored.
        """
        changed = await self.in_thread(put_items, self.store, items, self.now())
        await self.sync()
        if len(items) > 1 or not self.settings.live_items:
            return changed, False
        return changed, await self.models.keeper.embedded(items[0]["item_id"], changed, _LIVE_SECONDS)

    async def remove(self, item_id: str) -> None:
        """Take an item off offer.

        Raises:
            StoreAway: Nothing was changed.
        """
        await self.in_thread(remove_item, self.store, item_id, self.now())
        await self.sync()

    def ready(self) -> bool:
        """Whether requests may come. Without a model server fallbacks answer; one that is there warms up first."""
        return self.synced and self.models.begun and not self.draining

    def gauge(self) -> None:
        """Bring up to date what is not counted as it happens."""
        metrics, model = self.metrics, self.models.default
        metrics.items.set(len(self.catalogue))
        metrics.live.set(len(model.live) if model.live is not None else 0)
        metrics.events_waiting.set(self.events.waiting)
        metrics.version.set(model.version.number if model.version else 0)
        metrics.breaker.set(model.breaker.is_open)


def _logged(place: int, shown: Shown) -> list[Any]:
    """An item as `serving.events.tables.SLATES` keeps it."""
    found = [shown.item_id, shown.score, place, shown.propensity, shown.reason]
    return found if shown.team is None else [*found, shown.team]
