"""Items as training may see them otherwise: with other words, or between their neighbours."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Views:
    """V rows that follow the N + 1 of the item table in training, and nowhere else.

    A view has the inputs of the item that it stands for, but another text vector. In everything but its embedding
    (accidental hits, what was read, popularity) a positive that is embedded by a view is a positive of the item.
    """

    begin: int  # N + 1, the row of the first view
    item: np.ndarray  # (V,) int32 row of the item that each stands for
    text: np.ndarray  # (V, T) float32
    named: np.ndarray  # (V,) bool: it has the item's id; others have none, so that the content must learn
    drawn: np.ndarray  # (V,) bool: the item draws it; others belong to the positives that were added for them

    def __len__(self) -> int:
        return len(self.item)

    def __add__(self, other: Views) -> Views:
        """Both, one after the other; those of `other` move up."""
        columns = [each.name for each in fields(self) if each.name != "begin"]
        return Views(self.begin, *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in columns))

    def draw(self, item: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(...) int32 rows of the item table for items (...): the item or one of its views, each as likely.

        Positives and negatives draw alike. If positives alone did, a model would learn to tell views from items, and
        take what a view looks like for worth.
        """
        start, count, order = self._of_items
        place = rng.integers(0, count[item] + 1)
        if not len(order):
            return item.astype(np.int32)
        one = np.where(place > 0, start[item] + place - 1, 0)
        return np.where(place > 0, order[one], item).astype(np.int32)

    @cached_property
    def _of_items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where each item's views begin (N + 1,) in a list of rows, how many there are (N + 1,), and the list."""
        place = np.flatnonzero(self.drawn)
        order = place[np.argsort(self.item[place], kind="stable")]
        count = np.bincount(self.item[place], minlength=self.begin)
        return np.cumsum(count) - count, count, order + self.begin
