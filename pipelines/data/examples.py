"""Batches of examples for the two-tower model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipelines.data.catalogue import places
from pipelines.data.histories import Behaviour, Interactions

NOBODY = -1


@dataclass(frozen=True)
class HistoryWindow:
    """Cuts the last H events out of users' histories, oldest first and padded at the end, and adds the context.

    Where a query does not say its device, it counts as the most recent one known of the user's history.

    Args:
        length: H.
        has_times: Whether the dataset knows times; without them every age and every request's time is 0.
        user_language: (U,) int32, places in the run's vocabulary.
        devices: The run's vocabulary; place i is index i + 1.
    """

    interactions: Interactions
    length: int
    has_times: bool
    user_language: np.ndarray
    devices: Sequence[str] = ()

    def batch(
        self, user: np.ndarray, end: np.ndarray, at: np.ndarray, device: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Model inputs for users whose history ends at `end`, asked at `at` seconds since 1970 on `device` (str).

        User `NOBODY` with a history that ends at 0 is somebody of whom nothing is known.

        (B, H): `history` int32, `age_seconds`, `dwell_seconds`, `scroll_depth` float32. (B,): `language`, `device`
        int32, `time_seconds` int64.
        """
        log = self.interactions
        language = np.where(user == NOBODY, 0, self.user_language[user]) if len(self.user_language) else user * 0
        start = np.maximum(log.user_offsets[user], end - self.length)
        place = start[:, None] + np.arange(self.length)
        there = place < end[:, None]

        def window(values: np.ndarray) -> np.ndarray:
            found = np.zeros(place.shape, values.dtype)
            found[there] = values[place[there]]
            return found

        age = (at[:, None] - window(log.at)) * there if self.has_times else np.zeros(place.shape)
        return {
            "history": window(log.item).astype(np.int32),
            "age_seconds": age.astype(np.float32),
            "dwell_seconds": window(log.dwell),
            "scroll_depth": window(log.scroll),
            "language": language.astype(np.int32),
            "device": self._device(user, end, device),
            "time_seconds": (at if self.has_times else np.zeros_like(at)).astype(np.int64),
        }

    def items(self, user: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The distinct items of these users' histories, cut as in `batch`."""
        log = self.interactions
        # Of nobody, whose history ends at 0, no slice begins later.
        start = np.minimum(np.maximum(log.user_offsets[user], end - self.length), end)
        opened = np.bincount(start, minlength=len(log) + 1) - np.bincount(end, minlength=len(log) + 1)
        return np.unique(log.item[np.cumsum(opened)[:-1] > 0])

    def _device(self, user: np.ndarray, end: np.ndarray, device: np.ndarray | None) -> np.ndarray:
        if not self.devices:
            return np.zeros(len(user), np.int32)
        # A place of -1 is the 0 at the end: no event, no device.
        has_events = end > self.interactions.user_offsets[user]
        recent = self._recent_device[np.where(has_events, end - 1, -1)]
        if device is None:
            return recent
        return np.where(device == "", recent, places(device, list(self.devices))[1:])

    @cached_property
    def _recent_device(self) -> np.ndarray:
        """(E + 1,) int32: the user's most recent known device at each event, 0 for none; then a 0."""
        log = self.interactions
        known = np.where(log.device == "", -1, np.arange(len(log)))
        newest = np.maximum.accumulate(known) if len(log) else known
        found = newest >= log.user_offsets[log.user]
        device = places(log.device, list(self.devices))[1:]
        return np.r_[np.where(found, device[np.maximum(newest, 0)] if len(log) else 0, 0), 0].astype(np.int32)


class TrainingExamples:
    """Positives with their histories, their slates' other items and their popularity, in a new order each epoch.

    Args:
        chosen: (E,) bool, the positives to train on.
        shown_negatives: M, items of the same slate that were not clicked, drawn anew each epoch.
        max_per_user: Keep at most this many of a user's positives, the newest.
        seed: Of the order and of the draws.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        window: HistoryWindow,
        chosen: np.ndarray,
        *,
        items: int,
        batch_size: int,
        shown_negatives: int,
        max_per_user: int | None,
        seed: int,
    ) -> None:
        self.behaviour, self.window = behaviour, window
        self.batch_size, self.shown_negatives, self.seed = batch_size, shown_negatives, seed
        log = behaviour.interactions
        if max_per_user is not None:
            later = np.cumsum(chosen[::-1])[::-1] - chosen
            after_user = np.r_[np.cumsum(chosen[::-1])[::-1], 0][log.user_offsets[1:]]
            chosen = chosen & (later - after_user[log.user] < max_per_user)
        self.rows = np.flatnonzero(chosen)
        self._order: tuple[int, np.ndarray] = (-1, self.rows)
        counts = np.bincount(log.item[self.rows], minlength=items + 1)
        self.probability = (counts / max(1, counts.sum())).astype(np.float32)

    def __len__(self) -> int:
        """Batches an epoch. A last batch of one row is left out: it would have no in-batch negative."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest > 1)

    def batch(self, epoch: int, number: int) -> dict[str, np.ndarray]:
        """Batch `number` of an epoch; always the same for the same seed, epoch and number."""
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self.seed, epoch)).permutation(self.rows))
        rows = self._order[1][number * self.batch_size : (number + 1) * self.batch_size]
        return self._batch(rows, np.random.default_rng((self.seed, epoch, number)))

    def _batch(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        log = self.behaviour.interactions
        batch = self.window.batch(log.user[rows], log.history_end[rows], log.at[rows], log.device[rows])
        batch["positive"] = log.item[rows].astype(np.int32)
        batch["probability"] = self.probability[log.item[rows]]
        batch["shown"] = np.stack([self._shown(request, rng) for request in log.request[rows]])
        return batch

    def _shown(self, request: int, rng: np.random.Generator) -> np.ndarray:
        drawn = np.zeros(self.shown_negatives, np.int32)
        if request >= 0 and self.shown_negatives:
            slate = slice(self.behaviour.requests.offsets[request], self.behaviour.requests.offsets[request + 1])
            left = self.behaviour.requests.item[slate][~self.behaviour.requests.clicked[slate]]
            left = left[left > 0]
            left = left[np.sort(np.unique(left, return_index=True)[1])]  # an item may have been shown twice
            few = min(len(left), self.shown_negatives)
            drawn[:few] = rng.choice(left, few, replace=False)
        return drawn
