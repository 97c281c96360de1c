"""Applies a ranker to slates and to the whole catalogue, and counts ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.data.catalogue import Catalogue
from pipelines.data.histories import Behaviour
from pipelines.metrics import rank_metrics, slate_metrics
from pipelines.progress import track
from pipelines.rankers import Queries, Ranker

_SCORES_AT_ONCE = 20_000_000
_QUERIES_AT_ONCE = 1024


def request_queries(behaviour: Behaviour, chosen: np.ndarray) -> Queries:
    """The queries of the requests `chosen` (R,) bool."""
    requests = behaviour.requests
    return Queries(requests.user[chosen], requests.history_end[chosen], requests.at[chosen], requests.device[chosen])


@dataclass(frozen=True)
class Slates:
    """The slates of some requests; `offsets` bound them in the flat arrays.

    `known_only` leaves out shown items that the catalogue does not know: nobody can say what they are worth, and a
    made-up score for them would judge the guess and not the ranker.
    """

    queries: Queries
    offsets: np.ndarray
    item: np.ndarray
    clicked: np.ndarray
    read: np.ndarray
    liked: np.ndarray
    position: np.ndarray  # (S,) place in the request, from 1
    tie_break: np.ndarray
    weight: np.ndarray | None = None  # (S,) see `pipelines.metrics.slate_metrics`

    @classmethod
    def of(cls, behaviour: Behaviour, chosen: np.ndarray, *, known_only: bool = False) -> Slates:
        requests = behaviour.requests
        request = np.repeat(np.arange(len(requests)), np.diff(requests.offsets))
        flat = chosen[request] & ((requests.item > 0) | (not known_only))
        sizes = np.bincount(request[flat], minlength=len(requests))
        return cls(
            request_queries(behaviour, chosen),
            np.r_[0, np.cumsum(sizes[chosen])],
            requests.item[flat],
            requests.clicked[flat],
            requests.read[flat],
            requests.liked[flat],
            (np.arange(len(request)) - requests.offsets[request] + 1)[flat],
            _places(requests.item[flat], requests.item_ids[flat]),
        )

    def request(self) -> np.ndarray:
        """(S,) which of the queries each shown item belongs to."""
        return np.repeat(np.arange(len(self.queries)), np.diff(self.offsets))

    def labels(self, tasks: Sequence[str]) -> np.ndarray:
        """(S, tasks) bool: what became of each shown item."""
        known = {"click": self.clicked, "read": self.read, "like": self.liked}
        return np.stack([known[task] for task in tasks], axis=1)

    def scores(self, ranker: Ranker) -> np.ndarray:
        """(S,) the ranker's score for each shown item; one that the catalogue does not know is level with the last."""
        scores = np.zeros(len(self.item))
        blocks = list(self.queries.blocks(_QUERIES_AT_ONCE))
        for rows, block in track(blocks, f"{ranker.name}: slates", len(blocks)):
            flat = slice(self.offsets[rows.start], self.offsets[rows.stop])
            request = np.repeat(np.arange(len(block)), np.diff(self.offsets[rows.start : rows.stop + 1]))
            known = self.item[flat] > 0
            pairs = ranker.pairs(block, request[known], self.item[flat][known] - 1)
            lowest = np.full(len(block), np.inf)
            np.minimum.at(lowest, request[known], pairs)
            scores[flat] = np.where(np.isfinite(lowest), lowest, 0.0)[request]
            scores[np.arange(flat.start, flat.stop)[known]] = pairs
        return scores

    def metrics(self, ranker: Ranker) -> dict[str, np.ndarray]:
        return self.measure(self.scores(ranker))

    def measure(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """(R,) metrics of scores (S,)."""
        return slate_metrics(self.offsets, scores, self.clicked, self.tie_break, weight=self.weight)


@dataclass(frozen=True)
class CatalogueTargets:
    """Positives whose rank among the whole catalogue is wanted, seen items left out.

    A target that the user had already seen cannot be recommended, so it is no query; `already_seen` counts these.
    Items that were not on offer at the time of the query, published later or removed before, are left out too.
    """

    behaviour: Behaviour
    catalogue: Catalogue
    queries: Queries
    target: np.ndarray
    already_seen: int

    @classmethod
    def of(
        cls, behaviour: Behaviour, catalogue: Catalogue, chosen: np.ndarray, *, most: int | None = None, seed: int = 0
    ) -> CatalogueTargets:
        """Queries for the positives `chosen` (E,) bool; at most `most` of them, drawn with `seed`."""
        log = behaviour.interactions
        rows = np.flatnonzero(chosen)
        seen = _seen_before(log.user, log.item, log.user_offsets, log.history_end, rows)
        fresh = rows[~seen]
        if most is not None and len(fresh) > most:
            fresh = np.sort(np.random.default_rng(seed).choice(fresh, most, replace=False))
        queries = Queries(log.user[fresh], log.history_end[fresh], log.at[fresh], log.device[fresh])
        return cls(behaviour, catalogue, queries, log.item[fresh] - 1, int(seen.sum()))

    def ranks(self, ranker: Ranker) -> np.ndarray:
        """(Q,) rank of each target, from 1; among equal scores the smaller item id comes first."""
        ranks = np.zeros(len(self.queries), np.int64)
        blocks = list(self.queries.blocks(max(1, _SCORES_AT_ONCE // max(1, len(self.catalogue)))))
        for rows, block in track(blocks, f"{ranker.name}: catalogue", len(blocks)):
            target = self.target[rows]
            allowed = self.catalogue.on_offer(block.at) & unseen(self.behaviour, block, len(self.catalogue))
            allowed[np.arange(len(block)), target] = True
            scores = ranker.catalogue(block, allowed)
            wanted = scores[np.arange(len(block)), target][:, None]
            before = np.arange(len(self.catalogue))[None, :] < target[:, None]
            ranks[rows] = 1 + (scores > wanted).sum(axis=1) + ((scores == wanted) & before).sum(axis=1)
        return ranks

    def metrics(self, ranker: Ranker) -> dict[str, np.ndarray]:
        return rank_metrics(self.ranks(ranker))


def _places(item: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(S,) the place of each id among the distinct ids in their order; `item` (S,) is the row of a known one, or 0."""
    # Rows are compared where there are some, and ids as objects: an array of str would make room for every id at the
    # length of the longest.
    _, first, place = np.unique(item, return_index=True, return_inverse=True)
    unknown = item == 0
    others, other = np.unique(ids[unknown], return_inverse=True)
    place[unknown] = len(first) + other
    return np.unique(np.concatenate([ids[first], others]), return_inverse=True)[1][place]


def unseen(behaviour: Behaviour, queries: Queries, items: int) -> np.ndarray:
    """(Q, N) bool: which items are not in each query's whole history."""
    log = behaviour.interactions
    # Nobody has no place in the users, and a history that ends where it starts.
    start = np.minimum(log.user_offsets[queries.user], queries.history_end)
    row, place = log.spans(start, queries.history_end)
    found = np.ones((len(queries), items), bool)
    found[row, log.item[place] - 1] = False
    return found


def _seen_before(
    user: np.ndarray, item: np.ndarray, user_offsets: np.ndarray, history_end: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """For each row: does its user's history hold the same item?"""
    order = np.lexsort((np.arange(len(item)), item, user))
    first = np.r_[True, (user[order][1:] != user[order][:-1]) | (item[order][1:] != item[order][:-1])]
    first_place = np.empty(len(item), np.int64)
    first_place[order] = order[np.maximum.accumulate(np.where(first, np.arange(len(item)), 0))]
    return first_place[rows] < history_end[rows]
