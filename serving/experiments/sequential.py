"""Tests that stay valid however often somebody looks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Difference:
    """Treatment minus control.

    Args:
        value: The estimate.
        low, high: Of a confidence sequence: with probability 1 - alpha the truth is inside at every look at once.
        users: In both together.

    Example:
        >>> from serving import Difference
        >>> Difference(0.02, 0.01, 0.03, users=2_000).decided, Difference(0.02, -0.01, 0.05, users=200).decided
        (True, False)
    """

    value: float
    low: float
    high: float
    users: int

    @property
    def decided(self) -> bool:
        """Whether 0 is outside."""
        return not self.low <= 0 <= self.high


def boundary(users: float, planned: float, alpha: float) -> float:
    """Standard errors that a difference may be from the truth, at every number of users at once.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021), Theorem 2.2: a normal
    mixture (Robbins 1970) that is tightest near `planned` users. It holds where a central limit theorem does, so that
    the first look should have some hundred users.

    Args:
        users: In both arms together, so far.
        planned: Where it should be tightest.
        alpha: Chance that the truth is ever outside.

    Example:
        >>> from serving import boundary
        >>> boundary(1_000, planned=1_000, alpha=0.05) > 1.96  # more than for one look
        True
    """
    wide = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / planned
    grown = users * wide + 1
    return math.sqrt(2 * grown / (users * wide) * math.log(math.sqrt(grown) / alpha))


def difference(control: np.ndarray, treatment: np.ndarray, *, planned: int, alpha: float = 0.05) -> Difference:
    """The difference of means of two arms, one value a user, with its confidence sequence.

    Args:
        control, treatment: (U,) values; users are independent of one another.
        planned: Users in both together at which it should be tightest; choose it before the first look.
        alpha: Chance that the truth is ever outside of the interval.

    Raises:
        ValueError: An arm has fewer than two users.

    Example:
        >>> import numpy as np
        >>> from serving import difference
        >>> rng = np.random.default_rng(1)
        >>> found = difference(rng.normal(0.0, 1.0, 2_000), rng.normal(0.5, 1.0, 2_000), planned=4_000)
        >>> found.decided, found.low < 0.5 < found.high, found.users
        (True, True, 4000)
    """
    if min(len(control), len(treatment)) < 2:
        raise ValueError("both arms need two users or more")
    users = len(control) + len(treatment)
    value = float(treatment.mean() - control.mean())
    error = math.sqrt(control.var(ddof=1) / len(control) + treatment.var(ddof=1) / len(treatment))
    reach = boundary(users, planned, alpha) * error
    return Difference(value, value - reach, value + reach, users)


def distance_from_zero(values: np.ndarray, *, planned: int, alpha: float = 0.05) -> Difference:
    """A mean of one value a user, with its confidence sequence: of a preference, which is 0 where there is none.

    Raises:
        ValueError: There are fewer than two users.
    """
    if len(values) < 2:
        raise ValueError("two users or more are needed")
    value, error = float(values.mean()), math.sqrt(values.var(ddof=1) / len(values))
    reach = boundary(len(values), planned, alpha) * error
    return Difference(value, value - reach, value + reach, len(values))


def users_needed(
    mean: float, variance: float, lift: float, *, alpha: float = 0.05, power: float = 0.8
) -> tuple[int, int]:
    """Users in both arms together, equally many in each, to find a lift with this power.

    Args:
        mean, variance: Of the control's values.
        lift: Relative, such as 0.1.
        alpha: False alarms allowed.
        power: Chance to find the lift.

    Returns:
        For a sequential test (looked at as often as one likes), and for one look at a sample fixed beforehand.

    Example:
        >>> from serving import users_needed
        >>> sequential, fixed = users_needed(mean=0.1, variance=0.09, lift=0.1)
        >>> sequential > fixed > 10_000
        True
    """
    normal = NormalDist()
    effect, wanted = abs(mean * lift), normal.inv_cdf(power)
    fixed = 4 * variance * ((normal.inv_cdf(1 - alpha / 2) + wanted) / effect) ** 2
    low, high = fixed, 100 * fixed
    while high - low > 1:
        middle = (low + high) / 2
        # Found at the latest at the last look; stopping earlier only adds to it.
        enough = effect >= (boundary(middle, middle, alpha) + wanted) * math.sqrt(4 * variance / middle)
        low, high = (low, middle) if enough else (middle, high)
    return math.ceil(high), math.ceil(fixed)
