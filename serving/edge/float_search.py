"""Exact search over float32 embeddings: slower than `serving.edge.search`, and with nothing rounded away."""

from __future__ import annotations

import numpy as np

_BLOCK = 512  # rows in float64 at a time, which fit into a processor's cache


class FloatSearch:
    """Scores of N items for a user, as `ItemSearch` gives them: a search in float64, rounded to float32.

    For bundles of the variant float32, which answer as the exported model does.

    Args:
        embedding: (N, D) float32.
    """

    def __init__(self, embedding: np.ndarray) -> None:
        self._embedding = embedding
        self.width = int(embedding.shape[1])

    def best(self, user: np.ndarray, on_offer: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows that hold the `count` best of those on offer, and their equals, with their scores, in no order.

        Args:
            user: (D,) float32.
            on_offer: (N,) bool.
        """
        rows = np.flatnonzero(on_offer)
        scores = self.scores(user, rows)
        if len(rows) > count:
            kept = scores >= np.partition(scores, len(scores) - count)[len(scores) - count]
            rows, scores = rows[kept], scores[kept]
        return rows, scores

    def scores(self, user: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(R,) float32 scores of these rows, exact but for the last rounding."""
        wide = user.astype(np.float64)
        found = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _BLOCK):
            some = self._embedding[rows[start : start + _BLOCK]].astype(np.float64)
            found[start : start + _BLOCK] = np.einsum("rd,d->r", some, wide)
        return found

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """(R, D) float32 embeddings."""
        return self._embedding[rows]
