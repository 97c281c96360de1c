"""Histories of a training batch, varied: cropped, masked, with substitutes, reordered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.recipe import HistoryAugmentation


@dataclass(frozen=True)
class HistoryVariation:
    """The operators of CL4SRec (Xie et al. 2022: crop, mask, reorder) and of CoSeRec (Liu et al. 2021: substitute).

    They vary the input of the recipe's own losses; the contrastive loss of these papers is not there. Each is applied
    to every history, with a place drawn anew. Nothing is added that a history did not have room for: it never grows.

    Args:
        settings: The shares.
        similar: (N + 1, K) int32 rows of the most similar items, 0 where there are fewer; for `substitute` alone.
        published_at: (N,) of the items, in seconds since 1970.
    """

    settings: HistoryAugmentation
    similar: np.ndarray
    published_at: np.ndarray

    def shortened(
        self, place: np.ndarray, there: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places (B, H) of events and which there are, those first, after `crop` and `mask`."""
        if self.settings.crop:
            place, there = _cropped(place, there, self.settings.crop, rng)
        if self.settings.mask:
            place, there = _masked(place, there, self.settings.mask, rng)
        return place, there

    def changed(
        self, batch: dict[str, np.ndarray], at: np.ndarray, positive: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """What of a batch (B, H) is otherwise after `substitute` and `reorder`.

        A substitute was out when the event happened and is not what the row is to predict. Events change places with
        their signals; the ages stay, as if they had been read in that order.

        Args:
            at: (B, H) of the events, in seconds since 1970.
            positive: (B,) rows of the item table.
        """
        found = {name: batch[name] for name in ("history", "dwell_seconds", "scroll_depth")}
        if self.settings.substitute:
            found["history"] = self._substituted(found["history"], at, positive, rng)
        if self.settings.reorder:
            order = _reordered(batch["history"] > 0, self.settings.reorder, rng)
            found = {name: np.take_along_axis(values, order, axis=1) for name, values in found.items()}
        return found

    def _substituted(
        self, history: np.ndarray, at: np.ndarray, positive: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        chosen = rng.random(history.shape) < self.settings.substitute
        other = self.similar[history, rng.integers(0, self.similar.shape[1], history.shape)]
        fits = (other > 0) & (other != positive[:, None]) & (self.published_at[np.maximum(other, 1) - 1] <= at)
        return np.where(chosen & fits & (history > 0), other, history)


def _cropped(
    place: np.ndarray, there: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A run of each history (B, H), at least one event of it."""
    events = there.sum(axis=1)
    kept = np.ceil(events * (1 - share)).astype(np.int64)
    start = (rng.random(len(events)) * (events - kept + 1)).astype(np.int64)
    column = np.arange(place.shape[1])
    moved = np.minimum(start[:, None] + column, place.shape[1] - 1)
    return np.take_along_axis(place, moved, axis=1), column < kept[:, None]


def _masked(
    place: np.ndarray, there: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Histories (B, H) without a share of their events; what is left closes up."""
    kept = there & (rng.random(there.shape) >= share)
    order = np.argsort(~kept, axis=1, kind="stable")
    return np.take_along_axis(place, order, axis=1), np.take_along_axis(kept, order, axis=1)


def _reordered(there: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(B, H) the column that each column takes its event from: those of one run are shuffled."""
    events = there.sum(axis=1)
    run = np.ceil(events * share).astype(np.int64)
    start = (rng.random(len(events)) * (events - run + 1)).astype(np.int64)[:, None]
    column = np.broadcast_to(np.arange(there.shape[1]), there.shape)
    inside = (column >= start) & (column < start + run[:, None])
    key = np.where(inside, start + run[:, None] * rng.random(there.shape), column)
    # The shuffled stay between what is before them and after them, also where a key is a whole number.
    return np.lexsort((key, np.where(inside, start, column)), axis=1)
