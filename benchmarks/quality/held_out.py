"""Judges top lists against sets of held-out items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.histories import Behaviour
from pipelines.judge import unseen
from pipelines.rankers import Queries, Ranker

_QUERIES_AT_ONCE = 1000
_DEEP = 100


def set_metrics(hit: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of Q top lists against sets of wanted items.

    nDCG@10 has gain 1 and the ideal of min(10, wanted). MAP@10 is the sum of the precisions at the hits, divided by
    all that were wanted, as in Microsoft's Recommenders, whose published tables it is to be compared with.

    Args:
        hit: (Q, K) bool, whether the item at each rank was wanted; best rank first.
        wanted: (Q,) how many were wanted, 1 or more.
    """
    first = hit[:, :10].astype(float)
    rank = np.arange(1, first.shape[1] + 1)
    ideal = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(2, 12)))]
    return {
        "ndcg@10": (first / np.log2(rank + 1)).sum(axis=1) / ideal[np.minimum(wanted, 10)],
        "map@10": (first * first.cumsum(axis=1) / rank).sum(axis=1) / wanted,
        "precision@10": first.sum(axis=1) / 10,
        "recall@10": first.sum(axis=1) / wanted,
        "hr@10": first.any(axis=1).astype(float),
        "hr@100": hit[:, :100].any(axis=1).astype(float),
    }


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Users whose held-out items are to be found among what their histories do not hold.

    Query q wants `item[offsets[q] : offsets[q + 1]]` (places in the catalogue, from 0). Among equal scores the item
    that comes first in the catalogue is ranked first.

    Args:
        among: (N,) bool, the items that are ranked at all; the others are not candidates for anybody.
    """

    behaviour: Behaviour
    queries: Queries
    offsets: np.ndarray
    item: np.ndarray
    among: np.ndarray

    def metrics(self, ranker: Ranker) -> dict[str, np.ndarray]:
        items = len(self.among)
        depth = min(_DEEP, items)
        hits = np.zeros((len(self.queries), depth), bool)
        for rows, block in self.queries.blocks(_QUERIES_AT_ONCE):
            allowed = unseen(self.behaviour, block, items) & self.among
            scores = ranker.catalogue(block, allowed)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
            wanted = np.zeros((len(block), items), bool)
            sizes = np.diff(self.offsets[rows.start : rows.stop + 1])
            wanted[
                np.repeat(np.arange(len(block)), sizes), self.item[self.offsets[rows.start] : self.offsets[rows.stop]]
            ] = 1
            hits[rows] = np.take_along_axis(wanted & allowed, best, axis=1)
        return set_metrics(hits, np.diff(self.offsets))


def held_out(behaviour: Behaviour, user: np.ndarray, item: np.ndarray, among: np.ndarray) -> HeldOut:
    """A judge for the pairs (user, item) of places, given after everything that `behaviour` holds.

    Users without a history are left out: they would be asked nothing but the popular.
    """
    log = behaviour.interactions
    has_history = np.diff(log.user_offsets) > 0
    order = np.lexsort((item, user))
    user, item = user[order], item[order]
    kept = has_history[user]
    user, item = user[kept], item[kept]
    asked, start = np.unique(user, return_index=True)
    end = log.user_offsets[asked + 1]
    return HeldOut(behaviour, Queries(asked, end, log.at[end - 1] + 1), np.r_[start, len(user)], item, among)
