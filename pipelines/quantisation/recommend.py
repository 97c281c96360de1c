"""What a device recommends: the parts of a model around a matrix of items, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.quantisation.index import Index
from pipelines.quantisation.runners import Runner

_HOUR = 3600.0
SIGNALS = ("age_seconds", "dwell_seconds", "scroll_depth")


@dataclass(frozen=True)
class Recommendations:
    """Ranks the items of an index for one user at a time.

    Args:
        embedding: (N + 1, D) float32, the items' embeddings as this variant has them; row 0 is zero.
        user: The query tower.
        ranker: The second stage, where there is one.
        retrieve: Candidates that it is handed.
    """

    index: Index
    embedding: np.ndarray
    user: Runner
    ranker: Runner | None = None
    retrieve: int = 0

    def inputs(self, row: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The query tower's, of one row of a batch: history (H,) rows of the index, signals (H,), contexts ()."""
        history = row["history"][None]
        return {
            "history": self.embedding[history],
            "present": (history > 0).astype(np.float32),
            **{name: row[name][None] for name in (*SIGNALS, "language", "device", "time_seconds")},
        }

    def best(self, row: dict[str, np.ndarray], allowed: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the best items and their scores (count,), the best first; 0 and -inf where there are fewer.

        What the first stage retrieves comes in the second stage's order, then the rest in the first stage's. Among
        equal scores the smaller id comes first.

        Args:
            allowed: (N + 1,) bool, the items that may be recommended.
        """
        user = self.user(self.inputs(row))["embedding"]
        scores = np.where(allowed, (self.embedding @ user[0]).astype(np.float64), -np.inf)
        scores[0] = -np.inf
        order = np.argsort(-scores, kind="stable")[: max(count, self.retrieve)]
        order = order[np.isfinite(scores[order])]
        if self.ranker is not None:
            first, rest = order[: self.retrieve], order[self.retrieve :]
            scores[first] = self.ranker(self.candidates(row, user, first))["score"][0, : len(first)]
            # Candidates are judged in order of id, so that ties are too.
            first = np.sort(first)
            order = np.r_[first[np.argsort(-scores[first], kind="stable")], rest]
        found = np.zeros(count, np.int64)
        found[: len(order)] = order[:count]
        return found, np.where(found > 0, scores[found], -np.inf)

    def candidates(self, row: dict[str, np.ndarray], user: np.ndarray, item: np.ndarray) -> dict[str, np.ndarray]:
        """The second stage's inputs: a table of the history and the candidates alone, and their places in it."""
        padded = np.zeros(self.retrieve, np.int64)
        padded[: len(item)] = item
        rows = np.r_[0, row["history"], padded]
        place = np.where(rows > 0, np.arange(len(rows)), 0).astype(np.int32)
        length, index, at = len(row["history"]), self.index, row["time_seconds"]
        published = index.published_at[padded]
        age = np.maximum(at - published, 0).astype(np.float32) / np.float32(_HOUR)
        known = (published != 0) & (at > 0)
        return {
            "user": user,
            "history": place[None, 1 : 1 + length],
            "item": place[None, 1 + length :],
            "clicks": index.clicks[padded][None],
            "click_rate": index.click_rate[padded][None],
            "age_hours": np.where(known, age, np.float32(-1))[None],
            "embedding": self.embedding[rows],
            "category": index.category[rows],
            "tags": index.tags[rows],
            "appeal": index.appeal[rows],
        }
