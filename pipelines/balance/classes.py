"""Classes of items, which have more positives or fewer, and what is to be added to the thin ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.positives import Positives
from pipelines.errors import BadInput
from pipelines.prepare import Prepared
from pipelines.recipe import Balance, Fill
from pipelines.slices import head_items


@dataclass(frozen=True)
class Classes:
    """C classes; an item whose class is not known is in none, and nothing is done about it."""

    names: list[str]
    of_item: np.ndarray  # (N + 1,) place in `names`, -1 for none

    @classmethod
    def of(cls, data: Prepared, settings: Balance, positives: Positives) -> Classes:
        """The classes of a catalogue; head and tail by the `positives`, an item without any being of the tail.

        Raises:
            BadInput: There are not two, and a step needs them.
        """
        if settings.by == "popularity":
            head = head_items(np.bincount(positives.item, minlength=len(data.catalogue) + 1), settings.head)
            return cls(["head", "tail"], np.where(np.arange(len(head)) > 0, np.where(head, 0, 1), -1))
        values: np.ndarray = getattr(data.catalogue, settings.by)
        names = sorted(set(values.tolist()) - {""})
        if len(names) < 2 and settings.by_class:
            only = f"only {names[0]!r}" if names else "none"
            raise BadInput(f"balance needs items of two values of {settings.by}; the catalogue has {only}.")
        place = {name: at for at, name in enumerate(names)}
        return cls(names, np.array([-1, *(place.get(value, -1) for value in values)]))

    def counts(self, positives: Positives) -> np.ndarray:
        """(C,) positives of each."""
        of = self.of_item[positives.item]
        return np.bincount(of[of >= 0], minlength=len(self.names))

    def missing(self, positives: Positives, fill: Fill) -> np.ndarray:
        """(C,) how many positives each class lacks; one that has none cannot be filled."""
        counts = self.counts(positives)
        there = counts[counts > 0]
        if not len(there):
            return counts
        other = there.max() if fill.of == "largest" else np.median(there)
        return np.clip(np.ceil(fill.to * other) - counts, 0, np.floor(fill.most * counts)).astype(np.int64)

    def weights(self, positives: Positives, power: float) -> np.ndarray:
        """(N + 1,) float32: the inverse frequency of the item's class to a power, 1 for items of none.

        The mean over the positives is 1.
        """
        counts = self.counts(positives)
        of_class = np.where(counts > 0, np.maximum(counts, 1.0) ** -power, 0.0)
        of_class *= counts.sum() / max(1e-12, (of_class * counts).sum())
        # A class without a positive has none to weigh.
        of_class[counts == 0] = 1.0
        return np.where(self.of_item >= 0, np.r_[of_class, 1.0][self.of_item], 1.0).astype(np.float32)

    def named(self, counts: np.ndarray) -> dict[str, int]:
        """Counts (C,) by name, without the classes that have none."""
        return {name: int(count) for name, count in zip(self.names, counts, strict=True) if count}


def repeated(classes: Classes, positives: Positives, missing: np.ndarray, rng: np.random.Generator) -> Positives:
    """Positives of thin classes once more: all of a class as often as they fit, and then a draw of them."""
    of = classes.of_item[positives.item]
    places = []
    for place, count in enumerate(missing):
        mine = np.flatnonzero(of == place)
        if count:
            places += [np.tile(mine, count // len(mine)), rng.choice(mine, count % len(mine), replace=False)]
    return positives[np.concatenate(places)] if places else Positives.none()
