"""A feed: retrieve and rank by the model, filter, fill up, diversify, give reasons; and fall back in time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import numpy as np

from serving.events import StoreAway
from serving.gateway import reasons
from serving.gateway.caches import Entry, UserCache
from serving.gateway.catalogue import Catalogue, Wanted
from serving.gateway.diversify import diversify
from serving.gateway.errors import ModelAway
from serving.gateway.feeds import Ask, Feed, Known, Shown, StaleFeeds
from serving.gateway.live_items import LiveItems
from serving.gateway.metrics import Metrics
from serving.gateway.model import Model, Query, Retrieved
from serving.gateway.settings import Settings
from serving.gateway.users import Users

_log = logging.getLogger(__name__)
_REMOVED_TOLD = 64  # the last removed items, which the model is told; the rest is left out of what it answers
_DIVERSIFIED = 5  # times k, items to choose from under the caps of categories
_FILL = 64  # candidates to fill up with


class Recommender:
    """Answers always, and within the deadline: by the model, else with the user's last answer, trends, or the newest.

    `live` are the live items; they count while their version is the one that is asked.
    """

    def __init__(
        self,
        model: Model,
        catalogue: Catalogue,
        users: Users,
        cache: UserCache,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._model, self._catalogue, self._users, self._cache = model, catalogue, users, cache
        self._settings, self._metrics = settings, metrics
        self.stale = StaleFeeds(settings.cached_users, settings.stale_seconds)
        self.live: LiveItems | None = None

    async def recommend(self, ask: Ask) -> Feed:
        """The feed for a request."""
        known = Known(language=ask.language, hidden=set(ask.exclude))
        try:
            async with asyncio.timeout(self._settings.deadline_ms / 1000):
                feed = await self._personal(ask, known)
        except (ModelAway, StoreAway, TimeoutError):
            feed = self._fallback(ask, known)
        except Exception:
            # A reader is not to suffer from a fault of ours; the log says what it was.
            _log.exception("A recommendation failed.")
            feed = self._fallback(ask, known)
        self._metrics.answers.labels(feed.fallback or "model").inc()
        return feed

    async def similar(self, item_id: str, k: int, wanted: Wanted) -> Feed:
        """What is recommended to somebody who has read this item and nothing else."""
        item = self._catalogue.items.get(item_id)
        query = Query([item_id], [0.0], [0.0], [0.0], item.language if item else "", "", int(time.time()))
        now = _now()
        version = self._model.version
        try:
            if version is not None and not version.takes_live and self.live is not None and item_id in self.live:
                raise ModelAway("The model does not know the item.")
            async with asyncio.timeout(self._settings.deadline_ms / 1000):
                found = await self._retrieve("", Entry({}, -1), query)
            ids = [each for each in found.ids if self._passes(each, wanted, now) and each != item_id]
            scores = dict(zip(found.ids, found.scores, strict=True))
            items = [Shown(each, scores[each], f"More like {item_id}") for each in ids[:k]]
            return Feed(items, found.version)
        except (ModelAway, TimeoutError):
            alike = wanted._replace(categories=wanted.categories or frozenset([item.category] if item else []))
            newest = self._catalogue.newest(alike, k + 1, now)
            items = [Shown(each, 0.0, reasons.NEWEST) for each in newest if each != item_id]
            return Feed(items[:k], None, "newest")

    async def _personal(self, ask: Ask, known: Known) -> Feed:
        epoch = self.stale.epoch
        entry = await self._cache.read(ask.user_id)
        version = self._model.version.number if self._model.version else 0
        # An item is in the catalogue before it is live.
        state = self._catalogue.changed, self.live.state if self.live is not None else 0
        key = ask.key(self._model.name, version, self._settings.variant, *state)
        if self._settings.answer_seconds:
            kept = entry.fields.get(key)
            self._metrics.looked_up("answer", kept is not None)
            if kept is not None:
                return Feed.load(kept)
        known.learn(ask, await self._users.state(ask.user_id, entry), self._catalogue)
        query = self._query(ask, known)
        found = await self._retrieve(ask.user_id, entry, query)
        now = _now()
        scored = []
        for item_id, score in zip(found.ids, found.scores, strict=True):
            if item_id not in known.hidden and self._passes(item_id, ask.wanted, now):
                scored.append((item_id, score))
                if len(scored) >= _DIVERSIFIED * ask.k:
                    break
        if len(scored) < ask.k:
            scored += await self._more(ask, known, query, {item_id for item_id, _ in scored})
        share = 1.0 if len(ask.wanted.categories) == 1 else self._settings.category_share
        categories = [item.category if (item := self._catalogue.items.get(each)) else "" for each, _ in scored]
        chosen = diversify(scored, categories, ask.k, share)
        items = [Shown(each, score, self._reason(each, known, now)) for each, score in chosen]
        feed = Feed(items, found.version)
        if not items:
            raise ModelAway("The model has nothing to offer.")
        if self._settings.answer_seconds:
            # What became of a new version or catalogue meanwhile is not of this key.
            await self._cache.write(ask.user_id, entry.generation, key, feed.dump(), self._settings.answer_seconds)
        self.stale.keep(ask, feed, epoch)
        return feed

    def _query(self, ask: Ask, known: Known) -> Query:
        state = known.state
        told = set(state.item_ids)
        unseen = [each for each in known.hidden if each not in told]
        return Query(
            state.item_ids,
            [max(0.0, ask.time_seconds - at) for at in state.at_seconds],
            state.dwell_seconds,
            state.scroll_depth,
            known.language,
            ask.device or state.device,
            ask.time_seconds,
            [*unseen, *self._catalogue.removed[-_REMOVED_TOLD:]],
        )

    async def _retrieve(self, user_id: str, entry: Entry, query: Query) -> Retrieved:
        version, live = self._model.version, self.live
        if version is None or live is None or live.version != version.number or not len(live):
            return await self._model.recommend(query)
        most = self._settings.live_items
        if not version.takes_live:
            user = await self._users.vector(user_id, entry, self._model, query)
            return _merged(await self._model.recommend(query), query, live, user, version.two_stages)
        near = None if len(live) <= most else await self._users.vector(user_id, entry, self._model, query)
        chosen = live.chosen(most, near, query.history_ids, query.exclude)
        return await self._model.recommend(query._replace(live=chosen))

    async def _more(self, ask: Ask, known: Known, query: Query, chosen: set[str]) -> list[tuple[str, float]]:
        """The newest and what trends inside the filter, in the model's order."""
        now, most = _now(), max(_FILL, ask.k) + len(chosen) + len(known.hidden)
        there = [
            *self._catalogue.trending(ask.wanted, most, now),
            *self._catalogue.newest(ask.wanted, most, now),
        ]
        fresh = [each for each in dict.fromkeys(there) if each not in chosen and each not in known.hidden]
        fresh = fresh[: max(_FILL, ask.k)]
        if not fresh:
            return []
        scores = await self._model.rank(query, fresh)
        return sorted(zip(fresh, scores, strict=True), key=lambda each: -each[1])

    def _passes(self, item_id: str, wanted: Wanted, now: int) -> bool:
        return self._catalogue.on_offer(item_id, now) and wanted.admits(self._catalogue.items.get(item_id))

    def _reason(self, item_id: str, known: Known, now: int, otherwise: str = reasons.RECOMMENDED) -> str:
        hours = self._settings.new_hours
        return reasons.reason(self._catalogue, item_id, known.read, now=now, new_hours=hours, otherwise=otherwise)

    def _fallback(self, ask: Ask, known: Known) -> Feed:
        now = _now()
        stale = self.stale.find(ask)
        self._metrics.looked_up("stale", stale is not None)
        if stale is not None:
            items = [
                each
                for each in stale.items
                if each.item_id not in known.hidden and self._catalogue.on_offer(each.item_id, now)
            ]
            if items:
                return Feed(items[: ask.k], stale.version, "stale")
        spoken = ask.wanted
        if not spoken.languages and known.language:
            spoken = spoken._replace(languages=frozenset([known.language]))
        most = ask.k + len(known.hidden)
        trending = [each for each in self._catalogue.trending(spoken, most, now) if each not in known.hidden]
        for wanted in dict.fromkeys((spoken, ask.wanted)):
            newest = [each for each in self._catalogue.newest(wanted, most, now) if each not in known.hidden]
            if newest or trending:
                break
        chosen = list(dict.fromkeys([*trending, *newest]))[: ask.k]
        otherwise = dict.fromkeys(trending, reasons.TRENDING)
        items = [
            Shown(each, 0.0, self._reason(each, known, now, otherwise.get(each, reasons.NEWEST))) for each in chosen
        ]
        return Feed(items, None, "trending" if trending else "newest")


def _now() -> int:
    """What is on offer is so by the server's clock: a request's own time is for the model alone."""
    return time.time_ns() // 1000


def _merged(found: Retrieved, query: Query, live: LiveItems, user: np.ndarray, two_stages: bool) -> Retrieved:
    """Live items among what a version without `recommend_live` found.

    With one stage the scores are one dot product. A second stage's are of another kind, and what the first one gave an
    item is not known: there live items take turns with the index, in their own order.
    """
    everything = live.all()
    hidden = {*query.history_ids, *query.exclude}
    places = [place for place, each in enumerate(everything.ids.tolist()) if each not in hidden]
    scores = (everything.vectors[places] @ user).tolist() if places else []
    best: list[tuple[str, float]] = sorted(
        zip((str(everything.ids[place]) for place in places), scores, strict=True), key=lambda each: -each[1]
    )
    best = best[: max(1, len(found.ids))]
    taken = {each for each, _ in best}
    index = [each for each in zip(found.ids, found.scores, strict=True) if each[0] not in taken]
    ordered = _interleaved(index, best) if two_stages else sorted([*best, *index], key=lambda each: -each[1])
    return Retrieved([each for each, _ in ordered], [score for _, score in ordered], found.version)


def _interleaved(index: Sequence[tuple[str, float]], live: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """One live item after every fourth of the index, each with the score of the one before it."""
    ordered: list[tuple[str, float]] = []
    waiting = list(live)
    for place, each in enumerate(index):
        ordered.append(each)
        if waiting and place % 4 == 3:
            ordered.append((waiting.pop(0)[0], each[1]))
    return [*ordered, *((each, index[-1][1] if index else 0.0) for each, _ in waiting)]
