"""What a candidate would have earned, from what another model showed with known probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_THIN = 0.01  # of the records, that the effective sample must be
_HEAVY = 0.05  # of all weight, that one record may have


@dataclass(frozen=True)
class Value:
    """A mean reward with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OffPolicy:
    """Estimates of a policy's value.

    Args:
        ips: Inverse propensity scores (Horvitz and Thompson 1952).
        snips: The same, with weights that sum to 1 (Swaminathan and Joachims 2015).
        doubly_robust: Predictions, corrected by weights (Dudik, Langford and Li 2011); None without predictions.
        effective: Records that would say as much if all weights were equal (Kish 1965).
        warnings: Why not to believe them; empty for nothing.

    Example:
        >>> import numpy as np
        >>> from serving import off_policy
        >>> found = off_policy(np.array([1.0, 0.0, 1.0, 0.0]), np.full(4, 0.5), np.full(4, 0.5))
        >>> round(found.ips.value, 2), round(found.snips.value, 2), found.doubly_robust
        (0.5, 0.5, None)
    """

    ips: Value
    snips: Value
    doubly_robust: Value | None
    effective: float
    warnings: tuple[str, ...]


def off_policy(
    reward: np.ndarray,
    logged: np.ndarray,
    target: np.ndarray,
    *,
    predicted: np.ndarray | None = None,
    expected: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
    alpha: float = 0.05,
) -> OffPolicy:
    """Estimate the mean reward of a target policy from n records of another.

    Args:
        reward: (n,) of the item that was shown.
        logged: (n,) probability with which it was shown, above 0.
        target: (n,) probability with which the target policy would have shown it.
        predicted: (n,) reward that a model predicts for the item shown; it must not have been fitted on these records.
        expected: (n,) the same model's prediction, over what the target policy would show.
        cluster: (n,) of records that are not independent, such as a user's.
        alpha: Chance that the truth is outside of an interval.

    Raises:
        ValueError: There is no record, or a propensity is not in its range.

    Example:
        >>> import numpy as np
        >>> from serving import off_policy
        >>> rng = np.random.default_rng(1)
        >>> shown = rng.integers(2, size=2_000)  # one of two items, by a coin
        >>> clicked = (rng.random(2_000) < np.array([0.1, 0.3])[shown]).astype(float)
        >>> found = off_policy(clicked, np.full(2_000, 0.5), (shown == 1).astype(float))  # always the second item
        >>> found.ips.low < 0.3 < found.ips.high
        True
    """
    if not len(reward) or not (logged > 0).all() or (logged > 1).any() or (target < 0).any() or (target > 1).any():
        raise ValueError("off-policy estimates need records, whose propensities are above 0 and at most 1")
    weight = target / logged
    total = float(weight.sum())
    ips = _value(weight * reward, cluster, alpha)
    ratio = float((weight * reward).sum()) / total if total > 0 else 0.0
    mean = total / len(weight)
    # The influence of each record on a ratio of means.
    snips = _value(ratio + weight * (reward - ratio) / mean if mean > 0 else np.zeros_like(reward), cluster, alpha)
    robust = None
    if predicted is not None and expected is not None:
        robust = _value(expected + weight * (reward - predicted), cluster, alpha)
    squares = float((weight**2).sum())
    effective = total**2 / squares if squares > 0 else 0.0
    return OffPolicy(ips, snips, robust, effective, _warnings(weight, effective))


def _value(each: np.ndarray, cluster: np.ndarray | None, alpha: float) -> Value:
    """A mean with an interval that is corrected for skewness (Hall 1992), since rare large weights make it lopsided,
    and for how few records make up the variance (Satterthwaite 1946)."""
    value = float(each.mean())
    apart: np.ndarray = each - value
    if cluster is not None:
        _, place = np.unique(cluster, return_inverse=True)
        apart = np.bincount(place, apart)
    groups = len(apart)
    spread = float((apart**2).mean()) ** 0.5
    if groups < 2 or spread == 0:
        return Value(value, value, value)
    skewness = float((apart**3).mean()) / spread**3 / math.sqrt(groups)
    error = spread * groups / math.sqrt(groups - 1) / len(each)
    squares = apart**2
    reach = _student(NormalDist().inv_cdf(1 - alpha / 2), float(squares.sum() ** 2 / (squares**2).sum()))
    return Value(value, value - error * _unskewed(reach, skewness), value - error * _unskewed(-reach, skewness))


def _student(normal: float, freedom: float) -> float:
    """Student's quantile from the normal one (Fisher and Cornish 1960)."""
    first = (normal**3 + normal) / (4 * freedom)
    return normal + first + (5 * normal**5 + 16 * normal**3 + 3 * normal) / (96 * freedom**2)


def _unskewed(quantile: float, skewness: float) -> float:
    """Hall's cubic transformation, inverted: the quantile of a studentised mean of this skewness over root n."""
    if abs(skewness) < 1e-6:
        return quantile
    inner = 1 + skewness * (quantile - skewness / 6)
    return 3 / skewness * (math.copysign(abs(inner) ** (1 / 3), inner) - 1)


def _warnings(weight: np.ndarray, effective: float) -> tuple[str, ...]:
    found, count, mean = [], len(weight), float(weight.mean())
    if effective < _THIN * count or effective < 30:
        found.append(f"the overlap is thin: {count:,} records say as much as {effective:,.0f}")
    if count > 1:
        error = float(weight.std(ddof=1)) / math.sqrt(count)
        # Weights have mean 1 where all that the target shows could have been shown; their error is skewed.
        if mean < 1 - max(6 * error, 0.1):
            found.append(f"{1 - mean:.0%} of what the target policy shows was never shown")
    if weight.sum() > 0 and weight.max() > _HEAVY * weight.sum():
        found.append(f"one record has {weight.max() / weight.sum():.0%} of all weight")
    return tuple(found)
