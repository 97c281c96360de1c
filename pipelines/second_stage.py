"""The second stage as a ranker: the ranking tower over what the first stage retrieves."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pipelines.model_ranker import ModelRanker
from pipelines.popularity import Popularity
from pipelines.rankers import Queries

_QUERIES_AT_ONCE = 128
_HOUR = 3600.0


@dataclass(frozen=True)
class RankingInputs:
    """What the ranking tower is told of queries and items, from a trained first stage.

    Args:
        first: The first stage.
        appeal: The `towers.appeal.ContentAppeal`.
        popularity: Counts of the same catalogue.
        published_at: (N,) seconds since 1970, the smallest integer for unknown.
    """

    first: ModelRanker
    appeal: Any
    popularity: Popularity
    published_at: np.ndarray

    @cached_property
    def embedding(self) -> np.ndarray:
        """(N + 1, D), row 0 is padding. Kept as an array, since a tensor is copied whenever it is looked at as one."""
        return np.concatenate([np.zeros((1, self.first.items.shape[1]), np.float32), self.first.items])

    @cached_property
    def table(self) -> Any:
        """The `towers.ranking_features.RankedItems` of the catalogue."""
        from towers.ranking_features import RankedItems
        from towers.runtime import tf

        embedding, items = tf.constant(self.embedding), self.first.model.items
        return RankedItems(embedding, items.category, items.tags, self.appeal(embedding, items.category))

    @cached_property
    def _features(self) -> Any:
        from towers.ranking_features import Candidates, ranking_features
        from towers.runtime import tf

        table = self.table  # computed here, since what is made while a graph is traced stays in it

        def features(user: Any, history: Any, item: Any, clicks: Any, click_rate: Any, age_hours: Any) -> Any:
            return ranking_features(user, history, Candidates(item, clicks, click_rate, age_hours), table)

        return tf.function(
            features,
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, table.embedding.shape[1]], tf.float32),
                tf.TensorSpec([None, self.first.window.length], tf.int32),
                tf.TensorSpec([None, None], tf.int32),
                *(tf.TensorSpec([None, None], tf.float32) for _ in range(3)),
            ],
        )

    def of(self, queries: Queries, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (Q, C, F) and users' embeddings (Q, D) for candidates `item` (Q, C), rows + 1 and 0 for padding."""
        batch = self.first.window.batch(queries.user, queries.history_end, queries.at, queries.device)
        return self.of_batch(batch, item, queries.at)

    def of_batch(
        self, batch: dict[str, np.ndarray], item: np.ndarray, counted_at: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same for a batch of the window, with popularity as it was at the moments `counted_at` (Q,)."""
        user = self.first.model.embed_users(batch)
        at = np.broadcast_to(counted_at[:, None], item.shape)
        features = self._features(
            user,
            batch["history"],
            item.astype(np.int32),
            self.popularity.clicks(item, at),
            self.popularity.click_rate(item, at),
            self._age_hours(item, batch["time_seconds"][:, None]),
        )
        return features.numpy(), user.numpy()

    def _age_hours(self, item: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Hours since publication, float32; -1 where that or the time of the request is unknown."""
        published = np.r_[np.iinfo(np.int64).min, self.published_at][item]
        known = (published > np.iinfo(np.int64).min) & (at > 0)
        return np.where(known, np.maximum(at - np.where(known, published, 0), 0) / _HOUR, -1.0).astype(np.float32)

    def of_pairs(self, queries: Queries, row: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same for pairs: features (P, F) of item[p], rows + 1, for query row[p]; and (Q, D)."""
        from towers.ranking_features import FEATURES

        features = np.zeros((len(row), len(FEATURES)), np.float32)
        users = np.zeros((len(queries), self.first.items.shape[1]), np.float32)
        order = np.argsort(row, kind="stable")
        bounds = np.searchsorted(row[order], np.arange(len(queries) + 1))
        for rows, block in queries.blocks(_QUERIES_AT_ONCE):
            mine = order[bounds[rows.start] : bounds[rows.stop]]
            place, column, width = padding(row[mine] - rows.start, len(block))
            padded = np.zeros((len(block), width), np.int32)
            padded[place, column] = item[mine]
            found, users[rows] = self.of(block, padded)
            features[mine] = found[place, column]
        return features, users


def padding(row: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Where sorted `row` (P,) of `rows` goes in a padded table: its row, its column, and the table's width."""
    sizes = np.bincount(row, minlength=rows)
    column = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return row, column, max(1, int(sizes.max(initial=0)))


@dataclass(frozen=True)
class TwoStageRanker:
    """Retrieve, then rank.

    Args:
        inputs: What the tower is told.
        tower: The `towers.ranker.RankingTower`.
        retrieve: Candidates that the first stage hands over.
    """

    inputs: RankingInputs
    tower: Any
    retrieve: int
    name: str = field(default="two-stage")

    def pairs(self, queries: Queries, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self.order(self.log_odds(queries, row, item))

    def order(self, log_odds: np.ndarray) -> np.ndarray:
        """What items are ordered by (...), float64, from the tasks' log-odds (..., tasks)."""
        return log_odds.astype(np.float64) @ np.array(self.tower.objective)

    def log_odds(self, queries: Queries, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(P, tasks) calibrated log-odds of item[p], from 0, for query row[p]."""
        features, users = self.inputs.of_pairs(queries, row, item + 1)
        found = np.zeros((len(row), len(self.tower.tasks)), np.float32)
        for start in range(0, len(row), 8192):
            part = slice(start, start + 8192)
            found[part] = self._judge(features[part][:, None], users[row[part]], item[part][:, None] + 1)[:, 0]
        return found

    def catalogue(self, queries: Queries, allowed: np.ndarray) -> np.ndarray:
        """What is retrieved, in the second stage's order; then the rest, in the first stage's."""
        scores = self.inputs.first.catalogue(queries, allowed).astype(np.float64)
        for rows, block in queries.blocks(_QUERIES_AT_ONCE):
            batch = self.inputs.first.window.batch(block.user, block.history_end, block.at, block.device)
            scores[rows] = self.reordered(batch, scores[rows], block.at)
        return scores

    def reordered(self, batch: dict[str, np.ndarray], scores: np.ndarray, counted_at: np.ndarray) -> np.ndarray:
        """The first stage's scores (Q, N), what is retrieved first, in the second stage's order."""
        count = min(self.retrieve, scores.shape[1])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        ranked = self.order(self.judge(batch, best, counted_at))
        inside = np.isfinite(np.take_along_axis(scores, best, axis=1))
        lifted = scores.max(axis=1, initial=0.0, where=np.isfinite(scores))[:, None] + 1.0
        lifted = lifted + ranked - ranked.min(axis=1, keepdims=True)
        found = scores.astype(np.float64)
        np.put_along_axis(found, best, np.where(inside, lifted, -np.inf), axis=1)
        return found

    def judge(self, batch: dict[str, np.ndarray], item: np.ndarray, counted_at: np.ndarray) -> np.ndarray:
        """(Q, C, tasks) calibrated log-odds of items (Q, C), from 0."""
        return self._judge(*self.inputs.of_batch(batch, item + 1, counted_at), item + 1)

    def _judge(self, features: np.ndarray, users: np.ndarray, item: np.ndarray) -> np.ndarray:
        embeddings = self.inputs.embedding[item] if self.tower.crosses else np.zeros((*item.shape, 1))
        given = {"features": features, "user": users, "items": embeddings.astype(np.float32)}
        return np.asarray(self.tower.log_odds(given))
