"""Popularity as it stands at each query: the clicks of the last hours, counted before the moment of the query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.quality.protocol import Fitted, Training
from pipelines.data.histories import Interactions
from pipelines.rankers import Queries


@dataclass(frozen=True)
class SlidingPopularity:
    """How often each of N items was wanted in the seconds before a query, strictly earlier than it.

    A portal counts its clicks as they come, so this sees the judged day up to each moment, and never the moment itself.
    """

    name: str
    at: np.ndarray  # (E,) sorted
    item: np.ndarray  # (E,) places from 0
    items: int
    seconds: float

    @classmethod
    def of(cls, log: Interactions, items: int, seconds: float) -> SlidingPopularity:
        order = np.argsort(log.at, kind="stable")
        return cls("popularity of the last hours", log.at[order], log.item[order] - 1, items, seconds)

    def catalogue(self, queries: Queries, allowed: np.ndarray) -> np.ndarray:
        scores = np.empty(allowed.shape)
        start = np.searchsorted(self.at, queries.at - self.seconds, side="left")
        end = np.searchsorted(self.at, queries.at, side="left")
        for row, (first, last) in enumerate(zip(start, end, strict=True)):
            scores[row] = np.bincount(self.item[first:last], minlength=self.items)
        scores[~allowed] = -np.inf
        return scores

    def pairs(self, queries: Queries, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self.catalogue(queries, np.ones((len(queries), self.items), bool))[row, item]


def fit_sliding_popularity(training: Training, *, hours: float) -> Fitted:
    return Fitted(lambda view: SlidingPopularity.of(view.behaviour.interactions, len(view.catalogue), hours * 3600))
