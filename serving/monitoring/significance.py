"""How likely a difference is by chance: the tests that drift is found with, without SciPy."""

from __future__ import annotations

import math
from collections.abc import Sequence

_TERMS, _ENOUGH = 500, 1e-15


def chi_squared_sf(statistic: float, freedom: float) -> float:
    """The chance that a chi-squared variable is larger.

    The regularised upper incomplete gamma function: its series, or Lentz's continued fraction (Press et al., Numerical
    Recipes, 6.2).

    Args:
        freedom: Degrees of it, above 0.
    """
    a, x = freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for number in range(1, _TERMS * 20):
            term *= x / (a + number)
            total += term
            if term < total * _ENOUGH:
                break
        return min(1.0, max(0.0, 1.0 - total * scale))
    b, tiny = x + 1 - a, 1e-300
    c, d = 1 / tiny, 1 / b
    found = d
    for number in range(1, _TERMS * 20):
        factor = -number * (number - a)
        b += 2
        d = factor * d + b
        c = b + factor / c
        d = 1 / (d if abs(d) > tiny else tiny)
        c = c if abs(c) > tiny else tiny
        found *= d * c
        if abs(d * c - 1) < _ENOUGH:
            break
    return min(1.0, max(0.0, found * scale))


def kolmogorov_sf(distance: float, rows: float, others: float) -> float:
    """The chance of a larger Kolmogorov-Smirnov distance between two samples of one distribution.

    Kolmogorov's limit with Stephens' (1970) correction for small samples. Where values are equal it errs towards 1.
    """
    if rows <= 0 or others <= 0 or distance <= 0:
        return 1.0
    root = math.sqrt(rows * others / (rows + others))
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.2:
        return 1.0
    total = 0.0
    for number in range(1, 101):
        term = 2 * (-1) ** (number - 1) * math.exp(-2 * (number * scaled) ** 2)
        total += term
        if abs(term) < _ENOUGH:
            break
    return min(1.0, max(0.0, total))


def holm(chances: Sequence[float]) -> list[float]:
    """Chances adjusted for there being several: below alpha for any true hypothesis with probability alpha at most.

    Holm (1979). It holds however the tests depend on one another.
    """
    order = sorted(range(len(chances)), key=lambda place: chances[place])
    adjusted, least = [1.0] * len(chances), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(chances) - rank) * chances[place]))
        adjusted[place] = least
    return adjusted
