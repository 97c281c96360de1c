"""What is compared between training and serving, and between two windows: one definition for both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_HOUR = 3_600.0
_PRIOR = 50  # showings: what was hardly shown has no say
_GAP = 5  # places between the scores that are compared

# What depends on who chose the items that were shown, and is like training's only where that was a gateway too.
OF_THE_POLICY = ("wanted_category", "item_age_hours")
# What has another agenda every window: whether a difference is unusual can only be said beside other windows.
OF_THE_AGENDA = ("history_category", "wanted_category", "item_age_hours")
# What depends on the version of the model that answered.
OF_THE_MODEL = ("score_top", "score_gap", "embedding")


@dataclass(frozen=True)
class Samples:
    """S moments at which somebody asked, and the E events that were their histories then.

    Of each window a user is in it once, at one of their requests that chance chose: the most active users would
    otherwise decide, and their requests are not independent. Histories are cut to what the model is told; what is not
    known is "" or 0, as the model is told it.
    """

    user: np.ndarray  # (S,) int, who; the same number for the same user
    at: np.ndarray  # (S,) seconds since 1970
    language: np.ndarray  # (S,) str
    device: np.ndarray  # (S,) str
    offsets: np.ndarray  # (S + 1,) of the histories, which are oldest first
    item_id: np.ndarray  # (E,) str
    category: np.ndarray  # (E,) str
    event_at: np.ndarray  # (E,) seconds since 1970
    dwell: np.ndarray  # (E,) seconds
    scroll: np.ndarray  # (E,) 0 to 1

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Wanted:
    """W items that somebody wanted, one a user and window, chosen by chance. What is not known is "" or 0."""

    user: np.ndarray  # (W,) int
    item: np.ndarray  # (W,) int, which
    category: np.ndarray  # (W,) str
    dwell: np.ndarray  # (W,) seconds
    scroll: np.ndarray  # (W,) 0 to 1
    shown: Mapping[str, int] | None = None  # items shown, by category; None where that is not known


class Feature(NamedTuple):
    """The values of a feature.

    Args:
        values: (n,) str for categories, or numbers, of which those that are not finite are left out.
        drawn_with: (n,) ints: who or what each value came with. Values that came together are no independent draws.
        weights: (n,) what each counts, for categories.
    """

    values: np.ndarray
    drawn_with: np.ndarray | None = None
    weights: np.ndarray | None = None

    def worth(self) -> float:
        """How many independent draws the values are worth: (sum of w)^2 / sum of w^2 over units (Kish 1965)."""
        kinds = self.values.dtype == object or self.values.ndim > 1
        there = np.ones(len(self.values), bool) if kinds else np.isfinite(self.values)
        if not there.any():
            return 0.0
        weights = np.ones(len(there)) if self.weights is None else self.weights
        units = np.arange(len(there)) if self.drawn_with is None else self.drawn_with
        sizes = np.bincount(np.unique(units[there], return_inverse=True)[1], weights[there])
        return float(sizes.sum() ** 2 / (sizes @ sizes))


def features_of(
    samples: Samples, wanted: Wanted, *, age_hours: np.ndarray | None = None, scores: np.ndarray | None = None
) -> dict[str, Feature]:
    """Every feature but embeddings, by name.

    Args:
        age_hours: (S,) the median age of the items that each sample was shown; NaN for none.
        scores: (S, K) the scores of the answers, best first; NaN for none.
    """
    size = np.diff(samples.offsets)
    some = size > 0
    last = np.where(some, samples.offsets[1:] - 1, 0)
    # The zero stands where nobody has a history.
    event_at = np.append(samples.event_at, 0.0)
    found = {
        "language": Feature(samples.language, samples.user),
        "device": Feature(samples.device, samples.user),
        "hour": Feature(_text((samples.at % 86_400) // _HOUR), samples.user),
        "history_length": Feature(size.astype(float), samples.user),
        "hours_since_event": Feature(np.where(some, (samples.at - event_at[last]) / _HOUR, np.nan), samples.user),
        "history_category": Feature(samples.category[last[some]], samples.user[some]),
        "history_dwell": Feature(_means(samples.dwell, samples.offsets), samples.user),
        "history_scroll": Feature(_means(samples.scroll, samples.offsets), samples.user),
        "dwell_seconds": Feature(wanted.dwell.astype(float), wanted.user),
        "scroll_depth": Feature(wanted.scroll.astype(float), wanted.user),
    }
    if wanted.shown is not None:
        found["wanted_category"] = Feature(wanted.category, wanted.item, _appetite(wanted.category, wanted.shown))
    if age_hours is not None:
        found["item_age_hours"] = Feature(age_hours, samples.user)
    if scores is not None:
        found |= score_features(scores, samples.user)
    return found


def _appetite(category: np.ndarray, shown: Mapping[str, int]) -> np.ndarray:
    """(W,) weights under which categories count as if each had been shown equally often: direct standardisation.

    What is on offer changes every day, what people want of it hardly. In a simulated newsroom the index between two
    quiet days is a fifth of what it is without.
    """
    weights = np.array([1 / (shown.get(each, 0) + _PRIOR) for each in category])
    return weights / weights.mean() if len(weights) else weights


def score_features(scores: np.ndarray, user: np.ndarray) -> Mapping[str, Feature]:
    """Of scores (S, K), best first and NaN where there is none: the best, and how far it is above the fifth."""
    if scores.shape[1] < _GAP:
        scores = np.pad(scores, ((0, 0), (0, _GAP - scores.shape[1])), constant_values=np.nan)
    return {
        "score_top": Feature(scores[:, 0], user),
        "score_gap": Feature(scores[:, 0] - scores[:, _GAP - 1], user),
    }


def _means(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(S,) the mean of each slice; NaN for an empty one."""
    sums = np.diff(np.r_[0.0, np.cumsum(values, dtype=np.float64)][offsets])
    size = np.diff(offsets)
    return np.where(size > 0, sums / np.maximum(size, 1), np.nan)


def _text(numbers: np.ndarray) -> np.ndarray:
    column = np.empty(len(numbers), object)
    column[:] = [f"{int(number):02}" for number in numbers]
    return column
