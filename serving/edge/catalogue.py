"""What can be recommended now: a bundle's items, and what was added and removed on the box since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.edge.items import Items

_COLUMNS = ("category", "tags", "appeal", "clicks", "click_rate", "published_at")


@dataclass(frozen=True)
class Added:
    """An item encoded on the box.

    Args:
        embedding: (D,) float32.
        tags: (T,) int32.
    """

    embedding: np.ndarray
    category: int
    tags: np.ndarray
    appeal: float
    published_at: int
    on_offer: bool = True


class Catalogue:
    """The items of one moment; it never changes, so that a request sees one state throughout.

    Rows below N are the bundle's, in its order; then those added. What was added has no clicks yet, and a click rate of
    0, which is the average.

    Args:
        items: The bundle's.
        added: By id; one with an id of the bundle's takes its place.
        removed: Ids of the bundle's that are on offer no more. They go on serving histories.
    """

    def __init__(self, items: Items, added: Mapping[str, Added], removed: frozenset[str] = frozenset()) -> None:
        self.items, self.added, self.removed = items, dict(added), removed
        self._place = {item: row for row, item in enumerate(self.added, start=len(items))}
        self._added_ids = list(self.added)
        extra = list(self.added.values())
        width = items.search.width
        self._vectors = np.stack([each.embedding for each in extra]) if extra else np.zeros((0, width), np.float32)
        self.on_offer = np.concatenate([items.on_offer, np.array([each.on_offer for each in extra], bool)])
        hidden = [items.place[item] for item in {*removed, *self.added} if item in items.place]
        self.on_offer[hidden] = False
        nothing = np.zeros(len(extra), np.float32)
        new: dict[str, np.ndarray] = {
            "category": np.array([each.category for each in extra], np.int32),
            "tags": np.array([each.tags for each in extra], np.int32).reshape(len(extra), items.tags.shape[1]),
            "appeal": np.array([each.appeal for each in extra], np.float32),
            "clicks": nothing,
            "click_rate": nothing,
            "published_at": np.array([each.published_at for each in extra], np.int64),
        }
        # Without additions the bundle's own arrays serve, and memory is used once.
        self.columns = {
            name: np.concatenate([getattr(items, name), new[name]]) if extra else getattr(items, name)
            for name in _COLUMNS
        }

    def row(self, item: str) -> int | None:
        """Of an id, or None for one that is not known."""
        found = self._place.get(item)
        return self.items.place.get(item) if found is None else found

    def rows(self, items: Sequence[str]) -> list[int]:
        """Of the ids that are known, in their order."""
        return [row for row in map(self.row, items) if row is not None]

    def id(self, row: int) -> str:
        """Of a row."""
        count = len(self.items)
        return self.items.ids[row] if row < count else self._added_ids[row - count]

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """(R, D) float32 embeddings of rows (R,)."""
        count = len(self.items)
        own = rows < count
        found = np.empty((len(rows), self._vectors.shape[1]), np.float32)
        found[own] = self.items.search.vectors(rows[own])
        found[~own] = self._vectors[rows[~own] - count]
        return found

    def scores(self, user: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(R,) float32 products with a user's embedding (D,)."""
        count = len(self.items)
        own = rows < count
        found = np.empty(len(rows), np.float32)
        found[own] = self.items.search.scores(user, rows[own])
        found[~own] = np.einsum(
            "rd,d->r", self._vectors[rows[~own] - count].astype(np.float64), user.astype(np.float64)
        )
        return found

    def best(self, user: np.ndarray, hidden: Sequence[int], count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and scores of the `count` best on offer, rows in `hidden` left out, in no order; of equal scores at the
        end the smaller ids."""
        on_offer = self.on_offer.copy()
        on_offer[list(hidden)] = False
        own = len(self.items)
        rows, scores = self.items.search.best(user, on_offer[:own], count)
        extra = np.flatnonzero(on_offer[own:]) + own
        if len(extra):
            rows, scores = np.concatenate([rows, extra]), np.concatenate([scores, self.scores(user, extra)])
        if len(rows) <= count:
            return rows, scores
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        sure = np.flatnonzero(scores > least)
        level = sorted(np.flatnonzero(scores == least).tolist(), key=lambda place: self.id(int(rows[place])))
        kept = np.concatenate([sure, np.array(level[: count - len(sure)], np.int64)])
        return rows[kept], scores[kept]

    def ordered(self, rows: np.ndarray, scores: np.ndarray, count: int) -> list[tuple[str, float]]:
        """Ids and scores of the `count` best, best first; the smaller id of equals."""
        if len(rows) > count:
            kept = scores >= np.partition(scores, len(scores) - count)[len(scores) - count]
            rows, scores = rows[kept], scores[kept]
        found = list(zip(map(self.id, rows.tolist()), scores.tolist(), strict=True))
        return sorted(found, key=lambda each: (-each[1], each[0]))[:count]
