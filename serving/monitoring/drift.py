"""Whether two fingerprints differ by more than chance, and by enough to matter.

With many users every difference is significant, with few a large one is chance, and news has another agenda every
day: a feature has drifted where its test, corrected for there being several features, says so, its size is above the
limit, and that size is well above what is usual between windows. Limits were chosen on the quiet days of simulated
newsrooms: see `benchmarks/drift.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from serving.monitoring.features import OF_THE_AGENDA, OF_THE_MODEL
from serving.monitoring.fingerprint import OTHERS, Categories, Fingerprint, Numbers, Vectors
from serving.monitoring.significance import chi_squared_sf, holm, kolmogorov_sf

_Part = Categories | Numbers | Vectors
ALPHA = 0.01
FEWEST = 100  # samples on either side
_BINS = 10
_EXPECTED = 5.0  # in a cell of a chi-squared test
_TOLD = 3  # categories in a reason
PSI, KS, CENTROID = "psi", "ks", "centroid"
LIMITS = {PSI: 0.1, KS: 0.15, CENTROID: 0.25}
TIMES_USUAL = 2.0


@dataclass(frozen=True)
class Finding:
    """One feature against one reference.

    Args:
        sizes: By measure: `psi`, `ks` or `centroid`. The population stability index is without what chance adds to it.
        effect: Which of them decides.
        p_value: Of chi-squared, Kolmogorov-Smirnov, or Hotelling's test, adjusted by Holm's method.
        rows: Samples now.
        drifted: Whether it differs significantly, and by the effect's limit or more.
        reason: One sentence with the numbers.

    Example:
        >>> from serving import Finding
        >>> found = Finding("language", "training", {"psi": 0.4}, "psi", 0.001, 900, True, "language has drifted.")
        >>> found.drifted, found.sizes[found.effect]
        (True, 0.4)
    """

    feature: str
    reference: str
    sizes: dict[str, float]
    effect: str
    p_value: float
    rows: int
    drifted: bool
    reason: str


def find_drift(
    reference: Fingerprint,
    current: Fingerprint,
    *,
    usual: Mapping[str, float],
    alpha: float = ALPHA,
    limits: Mapping[str, float] | None = None,
) -> tuple[list[Finding], list[str]]:
    """Compare every feature that both have.

    Args:
        reference: What is usual.
        current: What is now.
        usual: By feature, the largest size between windows in which nothing was wrong. What follows the agenda is not
            judged where it is not in there.
        alpha: Chance that any feature is called significant where none has changed.
        limits: Of sizes, instead of `LIMITS`.

    Returns:
        Findings, in the order of the features' names; and sentences on what was not compared, and why.

    Example:
        >>> from serving import Fingerprint, find_drift
        >>> known = Fingerprint.load("models/news/1")
        >>> findings, skipped = find_drift(known, known, usual=known.usual)
        >>> any(each.drifted for each in findings)  # it is the same
        False
    """
    limits = LIMITS | dict(limits or {})
    if reference.hours != current.hours:
        return [], [
            f"{reference.source} counts users in windows of {reference.hours:g} h, these are of {current.hours:g} h: "
            "not compared."
        ]
    found, skipped = _compared(reference, current)
    adjusted = holm([each.p_value for each in found])
    judged = []
    for each, chance in zip(found, adjusted, strict=True):
        known = usual.get(each.feature)
        if known is None and each.feature in OF_THE_AGENDA:
            skipped.append(f"{each.feature} is not judged: what is usual of it is known after some windows.")
        judged.append(_judged(each, chance, limits[each.effect], known, alpha))
    return sorted(judged, key=lambda each: each.feature), skipped


def sizes_of(reference: Fingerprint, current: Fingerprint) -> dict[str, float]:
    """By feature, the size that decides on drift."""
    return {each.feature: each.sizes[each.effect] for each in _compared(reference, current)[0]}


def _judged(found: Finding, chance: float, limit: float, usual: float | None, alpha: float) -> Finding:
    size = found.sizes[found.effect]
    large = size >= max(limit, TIMES_USUAL * (usual or 0.0))
    drifted = chance < alpha and large and not (usual is None and found.feature in OF_THE_AGENDA)
    verdict = "differs from" if drifted else "is near" if chance < alpha else "is as in"
    told = f"limit {limit:g}" if usual is None else f"limit {limit:g}, usual up to {usual:.3f}"
    reason = f"{found.feature} {verdict} {found.reference}: {found.reason} ({told}), p {chance:.2g}, "
    return replace(found, p_value=chance, drifted=drifted, reason=f"{reason}{found.rows:,} users.")


def _compared(reference: Fingerprint, current: Fingerprint) -> tuple[list[Finding], list[str]]:
    found, skipped = [], []
    other_version = None not in (reference.version, current.version) and reference.version != current.version
    for kind in ("categories", "numbers", "vectors"):
        before, now = getattr(reference, kind), getattr(current, kind)
        for name in sorted(before.keys() | now.keys()):
            why = _unusable(before.get(name), now.get(name), reference.source)
            if name in OF_THE_MODEL and other_version:
                why = f"is version {current.version}'s, in {reference.source} version {reference.version}'s"
            if why:
                skipped.append(f"{name} {why}.")
            else:
                found.append(_compare(name, before[name], now[name], reference.source))
    return found, skipped


def _unusable(before: _Part | None, now: _Part | None, source: str) -> str | None:
    if before is None or now is None:
        return f"is not in {source}" if before is None else "is not known of this window"
    fewest = min(before.rows, now.rows)
    if fewest < FEWEST:
        return f"has {fewest:,} samples, which is too few to compare ({FEWEST})"
    if isinstance(before, Categories) and before.counts.keys() == {""}:
        return f"is unknown throughout {source}"
    if isinstance(before, Vectors) and isinstance(now, Vectors) and len(before.centroid) != len(now.centroid):
        return f"has {len(now.centroid)} numbers, in {source} {len(before.centroid)}"
    return None


def _compare(name: str, before: _Part, now: _Part, source: str) -> Finding:
    if isinstance(before, Categories) and isinstance(now, Categories):
        return _categories(name, before, now, source)
    if isinstance(before, Numbers) and isinstance(now, Numbers):
        return _numbers(name, before, now, source)
    if not isinstance(before, Vectors) or not isinstance(now, Vectors):
        raise TypeError(f"{name} is of two kinds")
    return _vectors(name, before, now, source)


def psi(reference: np.ndarray, current: np.ndarray) -> float:
    """The population stability index of two rows of counts (K,): the sum of (q - p) ln(q / p).

    Siddiqi, Credit Risk Scorecards (2006): below 0.1 little, from 0.25 on a shift. A count of zero counts as a half.
    """
    p, q = (np.maximum(counts, 0.5) / np.maximum(counts, 0.5).sum() for counts in (reference, current))
    return float(((q - p) * np.log(q / p)).sum())


def _beyond_chance(counts: np.ndarray, rows: float, others: float) -> float:
    """PSI (2, K) without its mean by chance, which is (K - 1)(1/n + 1/m) (Yurdakul 2018)."""
    used = int((counts.sum(axis=0) > 0).sum())
    return max(0.0, psi(*counts) - max(0, used - 1) * (1 / rows + 1 / others))


def chi_squared(counts: np.ndarray) -> float:
    """The p-value of Pearson's test that two rows of counts (2, K) are of one distribution.

    The rarest categories are pooled until every cell expects `_EXPECTED`.
    """
    total = counts.sum(axis=0)
    order = np.argsort(total, kind="stable")
    counts, total = counts[:, order], total[order]
    rows = counts.sum(axis=1)
    if rows.min() <= 0:
        return 1.0
    needed = _EXPECTED * rows.sum() / rows.min()
    pooled = int(np.searchsorted(np.cumsum(total), needed, "left")) + 1 if total[0] < needed else 1
    table = np.c_[counts[:, :pooled].sum(axis=1), counts[:, pooled:]]
    # What remains is in ascending order, but may begin with cells that are small themselves.
    while table.shape[1] > 1 and table.sum(axis=0).min() < needed:
        table = np.c_[table[:, :2].sum(axis=1), table[:, 2:]]
    if table.shape[1] < 2:
        return 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return chi_squared_sf(float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1)


def _categories(name: str, before: Categories, now: Categories, source: str) -> Finding:
    # What one side has no count of because it was rare there is rare.
    kept = [value for value in before.counts if value != OTHERS]
    kept += [
        value for value in now.counts if value != OTHERS and value not in before.counts and OTHERS not in before.counts
    ]
    counts = np.array([[side.counts.get(value, 0) for value in kept] for side in (before, now)], float)
    total = np.array([[sum(side.counts.values())] for side in (before, now)])
    rest = np.maximum(0.0, total - counts.sum(axis=1, keepdims=True))
    names = kept
    if (rest > 1e-9 * total).any():
        counts, names = np.c_[counts, rest], [*kept, OTHERS]
    worth = counts / total * np.array([[before.worth], [now.worth]])
    size = _beyond_chance(counts, before.worth, now.worth)
    shares = counts / counts.sum(axis=1, keepdims=True)
    most = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:_TOLD]
    told = ", ".join(f"{names[each] or 'unknown'} {shares[0, each]:.0%} -> {shares[1, each]:.0%}" for each in most)
    return Finding(name, source, {PSI: size}, PSI, chi_squared(worth), now.rows, False, f"{told}; PSI {size:.3f}")


def _numbers(name: str, before: Numbers, now: Numbers, source: str) -> Finding:
    points = np.union1d(before.points, now.points)
    distance = max(
        float(np.abs(before.share(points, below=side) - now.share(points, below=side)).max()) for side in (False, True)
    )
    edges = np.unique([before.quantile(each / _BINS) for each in range(1, _BINS)])
    counts = np.array([np.diff(np.r_[0.0, side.share(edges), 1.0]) * side.rows for side in (before, now)])
    sizes = {KS: distance, PSI: _beyond_chance(counts, before.worth, now.worth)}
    chance = kolmogorov_sf(distance, before.worth, now.worth)
    medians = f"median {before.quantile(0.5):.3g} -> {now.quantile(0.5):.3g}"
    told = f"{medians}; Kolmogorov-Smirnov distance {distance:.3f}"
    return Finding(name, source, sizes, KS, chance, now.rows, False, told)


def _vectors(name: str, before: Vectors, now: Vectors, source: str) -> Finding:
    """Hotelling's test in a few random directions (Lopes, Jacob and Wainwright 2011); each side has its covariance.

    The size is the distance of the centroids, without what chance adds to it, in spreads of the reference.
    """
    gap = np.array(now.projected) - np.array(before.projected)
    covariance = np.array(before.covariance) / before.worth + np.array(now.covariance) / now.worth
    # A direction in which nothing varies says nothing, unless there is a gap along it.
    covariance += np.eye(len(gap)) * (1e-12 + 1e-9 * np.trace(covariance))
    statistic = float(gap @ np.linalg.solve(covariance, gap))
    between = float(((np.array(now.centroid) - np.array(before.centroid)) ** 2).sum())
    chance_adds = before.spread**2 / before.worth + now.spread**2 / now.worth
    size = float(np.sqrt(max(0.0, between - chance_adds)) / max(before.spread, 1e-12))
    chance = chi_squared_sf(statistic, len(gap))
    return Finding(
        name, source, {CENTROID: size}, CENTROID, chance, now.rows, False, f"its centroid is {size:.2f} spreads away"
    )
