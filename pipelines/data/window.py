"""Histories and contexts as the two-tower model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipelines.data.catalogue import places
from pipelines.data.histories import Interactions

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
        return self.of_events(user, *self.places(user, end), at, self.device(user, end, device))

    def places(self, user: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places (B, H) of the last H events before `end`, and which of them there are."""
        start = np.maximum(self.interactions.user_offsets[user], end - self.length)
        place = start[:, None] + np.arange(self.length)
        return place, place < end[:, None]

    def of_events(
        self, user: np.ndarray, place: np.ndarray, there: np.ndarray, at: np.ndarray, device: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The same of histories that are the events at `place` (B, H) where `there` (B, H) is true.

        Args:
            device: (B,) int32 places in the run's vocabulary.
        """
        log = self.interactions
        language = np.where(user == NOBODY, 0, self.user_language[user]) if len(self.user_language) else user * 0

        chosen = place[there]

        def window(values: np.ndarray, dtype: type) -> np.ndarray:
            found: np.ndarray = np.zeros(place.shape, dtype)
            found[there] = values
            return found

        age = np.repeat(at, there.sum(axis=1)) - log.at[chosen] if self.has_times else chosen * 0
        return {
            "history": window(log.item[chosen], np.int32),
            "age_seconds": window(age, np.float32),
            "dwell_seconds": window(log.dwell[chosen], np.float32),
            "scroll_depth": window(log.scroll[chosen], np.float32),
            "language": language.astype(np.int32),
            "device": device,
            "time_seconds": (at if self.has_times else np.zeros_like(at)).astype(np.int64),
        }

    def items(self, user: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The distinct items of these users' histories, cut as in `batch`."""
        log = self.interactions
        # Of nobody, whose history ends at 0, no slice begins later.
        start = np.minimum(np.maximum(log.user_offsets[user], end - self.length), end)
        opened = np.bincount(start, minlength=len(log) + 1) - np.bincount(end, minlength=len(log) + 1)
        return np.unique(log.item[np.cumsum(opened)[:-1] > 0])

    def device(self, user: np.ndarray, end: np.ndarray, device: np.ndarray | None) -> np.ndarray:
        """(B,) int32 place of each query's own device, or else of the most recent one known of its history."""
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
