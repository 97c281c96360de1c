"""How unsure a model, or several, is of what users would click on: what active learning asks about next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy.special import entr, expit, rel_entr

from pipelines.judge import unseen
from pipelines.model_ranker import ITEMS_AT_ONCE, ModelRanker
from pipelines.prepare import Prepared
from pipelines.progress import track
from pipelines.rankers import DotProduct, Queries

By = Literal["entropy", "margin", "committee"]
_SCORES_AT_ONCE = 5_000_000
_USERS_AT_ONCE = 512


@dataclass(frozen=True)
class Member:
    """A ranker, and the line from its scores to the log-odds of a click."""

    ranker: DotProduct
    slope: float = 1.0
    intercept: float = 0.0

    def log_odds(self, queries: Queries) -> np.ndarray:
        """(Q, N) of every item."""
        scores = np.asarray(self.ranker.embed(queries) @ self.ranker.items.T, np.float64)
        return self.slope * scores + self.intercept


class DroppedOut(DotProduct):
    """Two towers with units dropped out as in training: a draw from what they take for possible.

    Gal and Ghahramani 2016, Dropout as a Bayesian approximation. An item keeps its draw; a user is drawn anew whenever
    asked for.
    """

    def __init__(self, towers: ModelRanker) -> None:
        self.towers = towers

    @cached_property
    def items(self) -> np.ndarray:
        from towers.runtime import tf

        model = self.towers.model
        starts = range(1, model.items.rows, ITEMS_AT_ONCE)
        blocks = [tf.range(start, min(start + ITEMS_AT_ONCE, model.items.rows)) for start in starts]
        return np.concatenate([model.embed_items(block, training=True).numpy() for block in blocks])

    def embed(self, queries: Queries) -> Any:
        batch = self.towers.window.batch(queries.user, queries.history_end, queries.at, queries.device)
        return self.towers.model(batch, training=True)[0].numpy()


@dataclass(frozen=True)
class Doubt:
    """What members are unsure of, in feeds of `feed` items.

    Entropy (bits) and margin (log-odds) are those of the first member; disagreement is that of all, the mean
    Kullback-Leibler divergence of each one's probability of a click from their mean (bits; McCallum and Nigam 1998).

    Args:
        data: Whose users are asked, at its end, about items that they have not wanted yet.
        allowed: (N,) bool, items that come into question.
    """

    data: Prepared
    members: Sequence[Member]
    by: By
    allowed: np.ndarray
    feed: int = 10

    def of_items(self, users: np.ndarray) -> np.ndarray:
        """(N,) mean over `users` (U,), the higher the less sure; NaN for an item that is to be shown to none of them.

        By margin: minus the distance from where the user's feed ends, between its last item and the next.
        """
        total, count = np.zeros(len(self.allowed)), np.zeros(len(self.allowed))
        for _, open_, odds in self._blocks(users):
            value = -np.abs(odds[0] - self._cut(odds[0], open_)[0]) if self.by == "margin" else self._value(odds)
            total += np.where(open_, value, 0.0).sum(axis=0)
            count += open_.sum(axis=0)
        with np.errstate(invalid="ignore"):
            return np.where(count > 0, total / count, np.nan)

    def of_users(self, users: np.ndarray) -> np.ndarray:
        """(U,) mean over the feed of each, the higher the less sure; NaN for a user to whom nothing is to be shown.

        By margin: minus the gap between the feed's last item and the next; NaN where there is no next.
        """
        found = np.full(len(users), np.nan)
        for rows, open_, odds in self._blocks(users):
            if self.by == "margin":
                found[rows] = -self._cut(odds[0], open_)[1]
                continue
            value = self._value(odds)
            mean = np.where(open_, np.mean(odds, axis=0), -np.inf)
            best = np.argsort(-mean, axis=1, kind="stable")[:, : self.feed]
            inside = np.take_along_axis(open_, best, axis=1)
            total = np.where(inside, np.take_along_axis(value, best, axis=1), 0.0).sum(axis=1)
            with np.errstate(invalid="ignore"):
                found[rows] = np.where(inside.any(axis=1), total / inside.sum(axis=1), np.nan)
        return found

    def _blocks(self, users: np.ndarray) -> Iterator[tuple[slice, np.ndarray, list[np.ndarray]]]:
        """Users, which items are open to them (B, N), and every member's log-odds (B, N) that is asked for."""
        log, items = self.data.behaviour.interactions, len(self.allowed)
        queries = Queries(users, log.user_offsets[users + 1], np.full(len(users), self.data.end))
        asked = self.members if self.by == "committee" else self.members[:1]
        size = max(1, min(_USERS_AT_ONCE, _SCORES_AT_ONCE // max(1, items * len(asked))))
        blocks = list(queries.blocks(size))
        for rows, block in track(blocks, "asking users", len(blocks)):
            yield (
                rows,
                unseen(self.data.behaviour, block, items) & self.allowed,
                [each.log_odds(block) for each in asked],
            )

    def _value(self, odds: list[np.ndarray]) -> np.ndarray:
        """(B, N) bits."""
        yes = expit(odds[0])
        if self.by == "entropy":
            # By the negative log-odds too, since 1 - p is 0 long before p is 1.
            return np.asarray((entr(yes) + entr(expit(-odds[0]))) / np.log(2))
        # By differences, so that members that agree disagree by exactly 0.
        mean = yes + np.mean([expit(each) - yes for each in odds], axis=0)
        divergence = [rel_entr(p, mean) + rel_entr(1 - p, 1 - mean) for p in map(expit, odds)]
        return np.asarray(np.maximum(np.mean(divergence, axis=0), 0.0) / np.log(2))

    def _cut(self, odds: np.ndarray, open_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each feed ends (B, 1), and the gap there (B,); its last item and NaN where there is no next."""
        order = -np.sort(-np.where(open_, odds, -np.inf), axis=1)
        count = open_.sum(axis=1)
        last = order[np.arange(len(odds)), np.clip(np.minimum(self.feed, count) - 1, 0, None)]
        after = np.where(count > self.feed, order[:, min(self.feed, order.shape[1] - 1)], np.nan)
        middle = np.where(np.isnan(after), last, (last + after) / 2)
        return np.where(np.isfinite(middle), middle, 0.0)[:, None], last - after


def distinct(order: np.ndarray, vectors: np.ndarray, k: int, most: float | None) -> np.ndarray:
    """The first `k` of `order`, without what has a cosine above `most` to one that stands before it.

    Args:
        vectors: (..., D) of what `order` names.
        most: None is any.
    """
    if most is None:
        return order[:k]
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length > 0, length, 1.0)
    kept: list[int] = []
    for place in order:
        if len(kept) == k:
            break
        if not kept or (unit[kept] @ unit[place]).max() <= most:
            kept.append(int(place))
    return np.array(kept, np.int64)
