"""Keeps the live items up to date: with what is put and removed, and with the version that is asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from serving.client import BadCall, ClientError
from serving.events import Store, StoreAway
from serving.events.items import ItemContent, ItemFacts, read_contents
from serving.gateway.catalogue import Catalogue
from serving.gateway.clock import Clock
from serving.gateway.live_items import LiveItems
from serving.gateway.model import Model, Version
from serving.gateway.settings import Settings

_log = logging.getLogger(__name__)
_PROBED, _EMBEDDED = 512, 8  # items in a call: what is asked for between them waits no longer than for one
# An item put so recently is taken to be newer than an index that has it: the index may have been made before.
_RECENT_MICROSECONDS = 86_400_000_000
_SWAP_SECONDS = 60.0
_PAUSE_SECONDS = 0.5


class LiveKeeper:
    """For one model, whose `version` and `live` it sets. All but `embedded` runs in one task, `run`.

    `in_vain` says that the server was asked and had no answer at least once.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        model: Model,
        settings: Settings,
        threads: ThreadPoolExecutor,
        clock: Clock,
    ) -> None:
        self._store, self._catalogue, self._model, self._clock = store, catalogue, model, clock
        self._most = settings.live_kept if settings.live_items else 0
        self._threads = threads
        self._before: LiveItems | None = None  # of the version that was asked before
        self._waiting: dict[str, int] = {}  # item and the number of its change
        self._wake = asyncio.Event()
        self._looked = 0.0
        self._news = asyncio.Condition()
        self.in_vain = False

    def changed(self, items: Sequence[ItemFacts]) -> None:
        """These items changed in the catalogue."""
        live = self._model.live
        for item in items:
            if item.removed_at:
                self._waiting.pop(item.item_id, None)
                if live is not None:
                    live.remove(item.item_id)
            else:
                self._waiting[item.item_id] = item.changed
        self._wake.set()

    async def embedded(self, item_id: str, changed: int, seconds: float) -> bool:
        """Wait until an item's change is live; whether it is."""

        def is_live() -> bool:
            return self._model.live is not None and self._model.live.changed(item_id) >= changed

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(is_live)
        return is_live()

    async def run(self) -> None:
        """Until it is cancelled."""
        complaint = ""
        while True:
            self._wake.clear()
            try:
                await self._look()
                await self._embed_waiting()
                complaint = ""
            except (ClientError, StoreAway) as error:
                self.in_vain = True
                if str(error) != complaint:
                    complaint = str(error)
                    _log.warning("The model's version and live items wait: %s", complaint)
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception:
                self.in_vain = True
                _log.exception("The model's version and live items wait.")
                await asyncio.sleep(_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_SECONDS):
                    await self._wake.wait()

    async def _look(self) -> None:
        """Take up a newer version, once its live items are embedded."""
        live = self._model.live
        current = self._model.version
        settled = live is not None and current is not None and live.version == current.number
        if settled and time.monotonic() < self._looked + _PAUSE_SECONDS:
            return
        self._looked = time.monotonic()
        newest = await self._model.newest()
        if live is not None and current == newest and live.version == newest.number:
            return
        await self._model.warm(newest)
        if current is None:
            self._model.version = newest
        _log.info("Version %d of %s is taken up.", newest.number, self._model.name)
        # After a rollback most of its live items are there already.
        fresh = self._before if self._before and self._before.version == newest.number else None
        fresh = fresh or LiveItems(newest.number, self._most)
        try:
            async with asyncio.timeout(_SWAP_SECONDS if current is not None else None):
                unknown = await self._unknown(newest)
                for item_id in set(fresh).difference(unknown):
                    fresh.remove(item_id)
                known = self._catalogue.items
                missing = [item_id for item_id in unknown if fresh.changed(item_id) < known[item_id].changed]
                await self._embed(fresh, newest, missing)
        except TimeoutError:
            _log.warning("Not all live items are embedded by version %d yet.", newest.number)
            self._waiting |= {item_id: item.changed for item_id, item in self._catalogue.items.items()}
        self._before = live
        self._model.version, self._model.live = newest, fresh

    async def _unknown(self, version: Version) -> list[str]:
        """Items on offer that an index does not have, or that were put a moment ago; the newest first."""
        if not self._most:
            return []
        items = [item for item in self._catalogue.items.values() if not item.removed_at]
        items.sort(key=lambda item: -item.since)
        recent = self._clock() - _RECENT_MICROSECONDS
        found = []
        for start in range(0, len(items), _PROBED):
            some = items[start : start + _PROBED]
            known = await self._model.known(version.number, [item.item_id for item in some])
            found += [
                item.item_id for item, there in zip(some, known, strict=True) if not there or item.put_at > recent
            ]
            if len(found) >= self._most:
                break
        return found[: self._most]

    async def _embed_waiting(self) -> None:
        live, version = self._model.live, self._model.version
        if live is None or version is None or live.version != version.number or not self._most:
            return
        while self._waiting:
            some = list(self._waiting)[:_PROBED]
            numbers = {item_id: self._waiting.pop(item_id) for item_id in some}
            try:
                recent = self._clock() - _RECENT_MICROSECONDS
                items = [self._catalogue.items[item_id] for item_id in some]
                items = [item for item in items if not item.removed_at]
                put = [item.item_id for item in items if item.put_at > recent]
                others = [item.item_id for item in items if item.put_at <= recent]
                if others:
                    known = await self._model.known(version.number, others)
                    put += [item_id for item_id, there in zip(others, known, strict=True) if not there]
                await self._embed(live, version, put)
            except BaseException:
                self._waiting = numbers | self._waiting
                raise

    async def _embed(self, live: LiveItems, version: Version, item_ids: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        for start in range(0, len(item_ids), _EMBEDDED):
            some = list(item_ids[start : start + _EMBEDDED])
            # Before the contents: a vector is never of an older form than its facts say.
            facts = {item_id: self._catalogue.items[item_id] for item_id in some}
            contents = await loop.run_in_executor(self._threads, read_contents, self._store, some)
            for content, vector in await self._vectors(version, contents):
                if not self._catalogue.items[content.item_id].removed_at:
                    live.put(facts[content.item_id], vector)
            async with self._news:
                self._news.notify_all()

    async def _vectors(self, version: Version, contents: Sequence[ItemContent]) -> list[tuple[ItemContent, np.ndarray]]:
        """Items with their vectors; what the model refuses, such as a broken image, is left out."""
        if not contents:
            return []
        try:
            return list(zip(contents, await self._model.embed_items(version.number, contents), strict=True))
        except BadCall as error:
            if len(contents) > 1:
                return [pair for each in contents for pair in await self._vectors(version, [each])]
            _log.warning("1 item cannot be embedded by version %d (%s).", version.number, error.code)
            return []
