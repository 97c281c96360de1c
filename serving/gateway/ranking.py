"""One user's items in order, by one model: retrieved and ranked by it, filtered, filled up, diversified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from serving.experiments.declaration import Treatment
from serving.gateway.caches import Entry
from serving.gateway.catalogue import Catalogue, Wanted
from serving.gateway.diversify import diversify
from serving.gateway.errors import ModelAway
from serving.gateway.feeds import Ask, Known
from serving.gateway.live_items import LiveItems
from serving.gateway.model import Model, Query, Retrieved
from serving.gateway.settings import Settings
from serving.gateway.users import Users

_REMOVED_TOLD = 64  # the last removed items, which the model is told; the rest is left out of what it answers
_DIVERSIFIED = 5  # times k, items to choose from under the caps of categories
_FILL = 64  # candidates to fill up with

Scored = tuple[str, float]


class Ordered(NamedTuple):
    """K items for a user with scores, what else might have been shown (after them, the best first), and by whom."""

    chosen: list[Scored]
    rest: list[Scored]
    version: int


class Ranking:
    """Asked for each request, with the model and the treatment of the user's variant."""

    def __init__(self, catalogue: Catalogue, users: Users, settings: Settings) -> None:
        self._catalogue, self._users, self._settings = catalogue, users, settings

    async def order(
        self, ask: Ask, known: Known, entry: Entry, model: Model, treatment: Treatment, now: int
    ) -> Ordered:
        """Items for a request, of which `known` says who asks.

        Raises:
            ModelAway: The model gives no answer, or has nothing to offer.
        """
        query = self._query(ask, known)
        found = await self.retrieve(ask.user_id, entry, model, query, treatment)
        scored = []
        for item_id, score in zip(found.ids, found.scores, strict=True):
            if item_id not in known.hidden and self.passes(item_id, ask.wanted, now):
                scored.append((item_id, score))
                if len(scored) >= _DIVERSIFIED * ask.k:
                    break
        if len(scored) < ask.k:
            scored += await self._more(ask, known, model, query, {item_id for item_id, _ in scored}, now)
        share = 1.0 if len(ask.wanted.categories) == 1 else treatment.category_share or self._settings.category_share
        categories = [item.category if (item := self._catalogue.items.get(each)) else "" for each, _ in scored]
        chosen = diversify(scored, categories, ask.k, share)
        if not chosen:
            raise ModelAway("The model has nothing to offer.")
        there = {item_id for item_id, _ in chosen}
        return Ordered(chosen, [each for each in scored if each[0] not in there], found.version)

    async def retrieve(self, user_id: str, entry: Entry, model: Model, query: Query, treatment: Treatment) -> Retrieved:
        """The model's best, of its index and of the live items.

        Raises:
            ModelAway: The model gives no answer.
        """
        version, live = model.version, model.live
        if version is None or live is None or live.version != version.number or not len(live):
            return await model.recommend(query)
        most = self._settings.live_items if treatment.live_items is None else treatment.live_items
        if not most:
            return await model.recommend(query)
        if not version.takes_live:
            user = await self._users.vector(user_id, entry, model, query)
            return _merged(await model.recommend(query), query, live, user, version.two_stages)
        near = None if len(live) <= most else await self._users.vector(user_id, entry, model, query)
        chosen = live.chosen(most, near, query.history_ids, query.exclude)
        return await model.recommend(query._replace(live=chosen))

    def passes(self, item_id: str, wanted: Wanted, now: int) -> bool:
        """Whether an item is on offer, and let through by a request's filters."""
        return self._catalogue.on_offer(item_id, now) and wanted.admits(self._catalogue.items.get(item_id))

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
            [*unseen, *self._catalogue.removed(_REMOVED_TOLD)],
        )

    async def _more(
        self, ask: Ask, known: Known, model: Model, query: Query, chosen: set[str], now: int
    ) -> list[Scored]:
        """The newest and what trends inside the filter, in the model's order."""
        most = max(_FILL, ask.k) + len(chosen) + len(known.hidden)
        there = [
            *self._catalogue.trending(ask.wanted, most, now),
            *self._catalogue.newest(ask.wanted, most, now),
        ]
        fresh = [each for each in dict.fromkeys(there) if each not in chosen and each not in known.hidden]
        fresh = fresh[: max(_FILL, ask.k)]
        if not fresh:
            return []
        scores = await model.rank(query, fresh)
        return sorted(zip(fresh, scores, strict=True), key=lambda each: -each[1])


def _merged(found: Retrieved, query: Query, live: LiveItems, user: np.ndarray, two_stages: bool) -> Retrieved:
    """Live items among what a version without `recommend_live` found.

    With one stage the scores are one dot product. A second stage's are of another kind, and what the first one gave an
    item is not known: there live items take turns with the index, in their own order.
    """
    everything = live.all()
    hidden = {*query.history_ids, *query.exclude}
    places = [place for place, each in enumerate(everything.ids.tolist()) if each not in hidden]
    scores = (everything.vectors[places] @ user).tolist() if places else []
    best: list[Scored] = sorted(
        zip((str(everything.ids[place]) for place in places), scores, strict=True), key=lambda each: -each[1]
    )
    best = best[: max(1, len(found.ids))]
    taken = {each for each, _ in best}
    index = [each for each in zip(found.ids, found.scores, strict=True) if each[0] not in taken]
    ordered = _interleaved(index, best) if two_stages else sorted([*best, *index], key=lambda each: -each[1])
    return Retrieved([each for each, _ in ordered], [score for _, score in ordered], found.version)


def _interleaved(index: Sequence[Scored], live: Sequence[Scored]) -> list[Scored]:
    """One live item after every fourth of the index, each with the score of the one before it."""
    ordered: list[Scored] = []
    waiting = list(live)
    for place, each in enumerate(index):
        ordered.append(each)
        if waiting and place % 4 == 3:
            ordered.append((waiting.pop(0)[0], each[1]))
    return [*ordered, *((each, index[-1][1] if index else 0.0) for each, _ in waiting)]
