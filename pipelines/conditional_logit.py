"""The conditional logit model of a choice among what was offered (McFadden 1974), as a function of the scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Choices:
    """Offers laid end to end, each with something chosen and something left.

    Attributes:
        row: (P,) place of each kept pair in what it was made of.
        group: (P,) its offer, from 0.
        starts: (G,) where each offer begins.
        target: (P,) share of its offer's choices; they add up to 1 in each.
    """

    row: np.ndarray
    group: np.ndarray
    starts: np.ndarray
    target: np.ndarray

    @classmethod
    def of(cls, offsets: np.ndarray, chosen: np.ndarray, *, most: int | None = None) -> Choices:
        """Of the offers that `offsets` (R + 1,) bound in `chosen` (P,) bool; at most `most`, drawn always alike.

        An offer without a choice, or with nothing else, says nothing and is left out.
        """
        sizes = np.diff(offsets)
        offer = np.repeat(np.arange(len(sizes)), sizes)
        choices = np.bincount(offer, chosen, minlength=len(sizes))
        usable = np.flatnonzero((choices > 0) & (choices < sizes))
        if most is not None and len(usable) > most:
            usable = np.sort(np.random.default_rng(0).choice(usable, most, replace=False))
        place = np.full(len(sizes), -1)
        place[usable] = np.arange(len(usable))
        row = np.flatnonzero(place[offer] >= 0)
        group = place[offer[row]]
        starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]]) if len(group) else group
        return cls(row, group, starts, chosen[row] / choices[offer[row]])

    def __len__(self) -> int:
        return len(self.starts)

    def loss(self, score: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean negative log-likelihood at the scores (P,), and its slope in each of them."""
        score = score - np.maximum.reduceat(score, self.starts)[self.group]
        odds = np.exp(score)
        total = np.add.reduceat(odds, self.starts)[self.group]
        fit = -(self.target * (score - np.log(total))).sum() / len(self)
        return fit, (odds / total - self.target) / len(self)
