"""A feed: by the model of the user's variant, kept, explored, with reasons; and what stands in where it cannot be."""

from __future__ import annotations

import asyncio
import logging

from serving.events import StoreAway
from serving.experiments.declaration import Treatment
from serving.experiments.interleaving import team_draft
from serving.gateway import reasons
from serving.gateway.assignments import Assigned
from serving.gateway.caches import Entry, UserCache
from serving.gateway.catalogue import Catalogue, Wanted
from serving.gateway.clock import Clock
from serving.gateway.errors import ModelAway
from serving.gateway.explore import coins, draw, explored
from serving.gateway.feeds import Ask, Feed, Known, Shown, StaleFeeds
from serving.gateway.metrics import Metrics
from serving.gateway.model import Model, Query
from serving.gateway.models import Models
from serving.gateway.ranking import Ordered, Ranking
from serving.gateway.settings import Settings
from serving.gateway.users import Users

_log = logging.getLogger(__name__)


class Recommender:
    """Answers always, and within the deadline: by the model, else with the user's last answer, trends, or the newest.

    Where a variant's own model is away, the default model answers, which is told as a fallback too.
    """

    def __init__(
        self,
        models: Models,
        catalogue: Catalogue,
        users: Users,
        cache: UserCache,
        settings: Settings,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._models, self._catalogue, self._users, self._cache = models, catalogue, users, cache
        self._settings, self._metrics, self._now = settings, metrics, clock
        self._ranking = Ranking(catalogue, users, settings)
        self.stale = StaleFeeds(settings.cached_users, settings.stale_seconds)

    async def recommend(self, ask: Ask, assigned: Assigned, request_id: str) -> Feed:
        """The feed for a request; its id decides what is left to chance."""
        known = Known(language=ask.language, hidden=set(ask.exclude))
        try:
            async with asyncio.timeout(self._settings.deadline_ms / 1000):
                feed = await self._personal(ask, known, assigned, request_id)
        except (ModelAway, StoreAway, TimeoutError):
            feed = self._fallback(ask, known)
        except Exception:
            # A reader is not to suffer from a fault of ours; the log says what it was.
            _log.exception("A recommendation failed.")
            feed = self._fallback(ask, known)
        self._metrics.answers.labels(feed.fallback or "model").inc()
        return feed

    async def preview(self, ask: Ask, treatment: Treatment) -> Feed:
        """The feed by a treatment, with nothing left to chance: not logged, not kept, and with no fallback but the
        default model for one that is away.

        Raises:
            ModelAway, StoreAway: There is none at the moment.
        """
        known = Known(language=ask.language, hidden=set(ask.exclude))
        entry = await self._cache.read(ask.user_id)
        known.learn(ask, await self._users.state(ask.user_id, entry), self._catalogue)
        now = self._now()
        found, fallback = await self._ordered(ask, known, entry, treatment, now)
        items = [Shown(item_id, score, self._reason(item_id, known, now)) for item_id, score in found.chosen]
        return Feed(items, found.version, fallback)

    async def similar(self, item_id: str, k: int, wanted: Wanted) -> Feed:
        """What is recommended to somebody who has read this item and nothing else."""
        item, now, model = self._catalogue.items.get(item_id), self._now(), self._models.default
        query = Query([item_id], [0.0], [0.0], [0.0], item.language if item else "", "", now // 10**6)
        try:
            if model.version is not None and not model.version.takes_live and model.live and item_id in model.live:
                raise ModelAway("The model does not know the item.")
            async with asyncio.timeout(self._settings.deadline_ms / 1000):
                found = await self._ranking.retrieve("", Entry({}, -1), model, query, Treatment())
            ids = [each for each in found.ids if self._ranking.passes(each, wanted, now) and each != item_id]
            scores = dict(zip(found.ids, found.scores, strict=True))
            items = [Shown(each, scores[each], f"More like {item_id}") for each in ids[:k]]
            return Feed(items, found.version)
        except (ModelAway, TimeoutError):
            alike = wanted._replace(categories=wanted.categories or frozenset([item.category] if item else []))
            newest = self._catalogue.newest(alike, k + 1, now)
            items = [Shown(each, 0.0, reasons.NEWEST) for each in newest if each != item_id]
            return Feed(items[:k], None, "newest")

    async def _personal(self, ask: Ask, known: Known, assigned: Assigned, request_id: str) -> Feed:
        epoch = self.stale.epoch
        treatment = assigned.treatment
        entry = await self._cache.read(ask.user_id)
        share = treatment.explore or 0.0
        drawn = draw(request_id, share)
        # What is drawn for one request is not another's answer.
        keeps = self._settings.answer_seconds > 0 and drawn is None and assigned.second is None
        key = self._key(ask, self._models.of(treatment.label), assigned.variant)
        if keeps:
            kept = entry.fields.get(key)
            self._metrics.looked_up("answer", kept is not None)
            if kept is not None:
                return Feed.load(kept)
        known.learn(ask, await self._users.state(ask.user_id, entry), self._catalogue)
        now = self._now()
        found, fallback = await self._ordered(ask, known, entry, treatment, now)
        if assigned.second is None:
            pool = [*found.chosen, *found.rest][: max(self._settings.explore_pool, len(found.chosen))]
            items = [
                Shown(item_id, score, self._reason(item_id, known, now), propensity)
                for (item_id, score), propensity in explored(found.chosen, pool, share, drawn)
            ]
        else:
            second, of_second = await self._ordered(ask, known, entry, assigned.second, now)
            fallback = fallback or of_second
            items = self._mixed(found, second, ask, known, request_id, now)
        feed = Feed(items, found.version, fallback)
        if keeps:
            # What became of a new version or catalogue meanwhile is not of this key.
            await self._cache.write(ask.user_id, entry.generation, key, feed.dump(), self._settings.answer_seconds)
        self.stale.keep(ask, feed, epoch)
        return feed

    def _key(self, ask: Ask, model: Model, variant: str) -> str:
        version = model.version.number if model.version else 0
        # An item is in the catalogue before it is live.
        state = self._catalogue.changed, model.live.state if model.live is not None else 0
        return ask.key(model.name, version, variant, *state)

    async def _ordered(
        self, ask: Ask, known: Known, entry: Entry, treatment: Treatment, now: int
    ) -> tuple[Ordered, str | None]:
        """Items by a treatment's model, or by the default one where that is away; and which fallback that was."""
        model = self._models.of(treatment.label)
        fallback = "default" if treatment.label and model.label != treatment.label else None
        try:
            return await self._ranking.order(ask, known, entry, model, treatment, now), fallback
        except ModelAway:
            if model is self._models.default:
                raise
        return await self._ranking.order(ask, known, entry, self._models.default, treatment, now), "default"

    def _mixed(self, first: Ordered, second: Ordered, ask: Ask, known: Known, request_id: str, now: int) -> list[Shown]:
        """Two variants' feeds in one, with whose each item is."""
        scores = dict(second.chosen) | dict(first.chosen)
        one, other = ([item_id for item_id, _ in each.chosen] for each in (first, second))
        mixed = team_draft(one, other, ask.k, seed=coins(request_id))
        return [
            Shown(item_id, scores[item_id], self._reason(item_id, known, now), 1.0, team)
            for item_id, team in zip(mixed.items, mixed.team, strict=True)
        ]

    def _reason(self, item_id: str, known: Known, now: int, otherwise: str = reasons.RECOMMENDED) -> str:
        hours = self._settings.new_hours
        return reasons.reason(self._catalogue, item_id, known.read, now=now, new_hours=hours, otherwise=otherwise)

    def _fallback(self, ask: Ask, known: Known) -> Feed:
        now = self._now()
        stale = self.stale.find(ask)
        self._metrics.looked_up("stale", stale is not None)
        if stale is not None:
            items = [
                Shown(*each[:3])
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
