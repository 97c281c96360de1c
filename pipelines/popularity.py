"""How popular an item was before a moment: clicks and click rate, without a look at the future."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.data.histories import Behaviour

# Impressions' worth of the mean click rate that every item starts with.
_PRIOR_SHOWN = 50.0
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Occurrences:
    """Moments at which things happened to N items, to be counted up to any moment."""

    key: np.ndarray
    low: int
    span: int

    @classmethod
    def of(cls, item: np.ndarray, at: np.ndarray, low: int, high: int) -> Occurrences:
        """`item` (E,) are rows of the catalogue + 1, of which 0 does not count; `at` (E,) seconds from low to high."""
        span = high - low + 2
        known = item > 0
        return cls(np.sort(item[known].astype(np.int64) * span + (at[known] - low)), low, span)

    def before(self, item: np.ndarray, at: np.ndarray) -> np.ndarray:
        """How often each `item` had occurred strictly before its moment `at`; both of one shape."""
        first = item.astype(np.int64) * self.span
        moment = np.clip(at - self.low, 0, self.span - 1)
        return np.searchsorted(self.key, first + moment) - np.searchsorted(self.key, first)


@dataclass(frozen=True)
class Popularity:
    """Clicks and impressions of the items of one catalogue, from one or several logs."""

    clicked: Occurrences
    shown: Occurrences
    mean_rate: float

    @classmethod
    def of(cls, logs: Sequence[tuple[Behaviour, np.ndarray]]) -> Popularity:
        """Count the logs together. Of each log but the first only what came before the first one began counts, so
        that what two logs share is counted once.

        Args:
            logs: Each with (N' + 1,) places: the row of the wanted catalogue for a row of the log's own, 0 for none.
        """
        clicks, click_at, shown, shown_at = [], [], [], []
        begin, taken = None, 0
        for behaviour, rows in logs:
            log, requests = behaviour.interactions, behaviour.requests
            moment = np.repeat(requests.at, np.diff(requests.offsets))
            early, early_shown = np.ones(len(log), bool), np.ones(len(moment), bool)
            if begin is None:
                begin = min(log.at.min(initial=_NEVER), moment.min(initial=_NEVER))
            else:
                early, early_shown = log.at < begin, moment < begin
            clicks.append(rows[log.item[early]])
            click_at.append(log.at[early])
            shown.append(rows[requests.item[early_shown]])
            shown_at.append(moment[early_shown])
            taken += int(requests.clicked[early_shown].sum())
        item, at = np.concatenate(clicks), np.concatenate(click_at)
        seen, seen_at = np.concatenate(shown), np.concatenate(shown_at)
        moments = np.concatenate([at, seen_at])
        low, high = (int(moments.min()), int(moments.max())) if len(moments) else (0, 0)
        return cls(
            Occurrences.of(item, at, low, high),
            Occurrences.of(seen, seen_at, low, high),
            max(taken, 1) / max(len(seen), 1),
        )

    def clicks(self, item: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Clicks on each `item` strictly before `at`, float32."""
        return self.clicked.before(item, at).astype(np.float32)

    def click_rate(self, item: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Log of the click rate before `at` over the mean rate, shrunk to 0 where there is little to go by, float32."""
        prior = _PRIOR_SHOWN * self.mean_rate
        rate = (self.clicked.before(item, at) + prior) / (self.shown.before(item, at) + _PRIOR_SHOWN)
        return np.log(rate / self.mean_rate).astype(np.float32)
