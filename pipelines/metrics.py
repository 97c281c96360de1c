"""Ranking metrics and their intervals. Values are per request or per query; means and intervals come after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SLATE_METRICS = ("auc", "mrr", "ndcg@5", "ndcg@10", "precision@5")
_CUTOFFS = (10, 20, 100)
RANK_METRICS = tuple(f"{name}@{k}" for k in _CUTOFFS for name in ("recall", "ndcg"))


def slate_metrics(
    offsets: np.ndarray,
    scores: np.ndarray,
    clicked: np.ndarray,
    tie_break: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    precision_at: int = 5,
) -> dict[str, np.ndarray]:
    """Metrics of each request's ranking of what it showed.

    AUC counts a tie as half. MRR is the mean of the clicked items' reciprocal ranks and nDCG has gain 1 for a click,
    as in the evaluation of MIND (Wu et al. 2020). Precision@k divides by k, also where fewer items were shown.

    Args:
        offsets: (R + 1,) bounds of the requests in the other arrays.
        scores: (S,) the higher, the better.
        clicked: (S,) bool.
        tie_break: (S,) order among equal scores, smaller first; must not depend on the click.
        weight: (S,) of a click there, one over how likely the item was looked at where it stood. With it there is
            `dcg@10` too, which is free of position bias (Joachims, Swaminathan and Schnabel 2017): the weighted gains,
            over the mean weight of a request's clicks.

    Returns:
        A (R,) array per metric; NaN for a request that has not both a click and an item left alone.
    """
    sizes = np.diff(offsets)
    request = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((tie_break, -scores, request))
    rank = np.arange(len(scores)) - np.repeat(offsets[:-1], sizes) + 1.0
    hit = clicked[order].astype(float)
    sorted_scores = scores[order]
    clicks = _sum_by(request, hit, len(sizes))
    usable = (clicks > 0) & (clicks < sizes)
    result = {
        "auc": _auc(request, sorted_scores, hit, len(sizes), clicks, sizes),
        "mrr": _sum_by(request, hit / rank, len(sizes)) / np.maximum(clicks, 1),
    }
    for k in (5, 10):
        gain = _sum_by(request, hit * (rank <= k) / np.log2(rank + 1), len(sizes))
        best = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(2, k + 2)))]
        result[f"ndcg@{k}"] = gain / best[np.minimum(np.maximum(clicks, 1), k).astype(int)]
    if weight is not None:
        weighted = hit * weight[order]
        gain = _sum_by(request, weighted * (rank <= 10) / np.log2(rank + 1), len(sizes))
        result["dcg@10"] = gain * usable.sum() / max(float(weighted[usable[request]].sum()), 1e-12)
    result[f"precision@{precision_at}"] = _sum_by(request, hit * (rank <= precision_at), len(sizes)) / precision_at
    return {name: np.where(usable, value, np.nan) for name, value in result.items()}


def _auc(
    request: np.ndarray, scores: np.ndarray, hit: np.ndarray, requests: int, clicks: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Mann-Whitney U by mid-ranks; the rows come sorted by request and falling score."""
    if not len(scores):
        return np.full(requests, np.nan)
    new = np.r_[True, (request[1:] != request[:-1]) | (scores[1:] != scores[:-1])]
    group = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    ends = np.r_[starts[1:], len(scores)]
    begin = np.r_[0, np.cumsum(sizes)][request]
    end = begin + sizes[request]
    # Mid-rank from the bottom: the worst item of a request has rank 1.
    mid = end - (starts[group] + ends[group] - 1) / 2.0
    total = _sum_by(request, hit * mid, requests)
    pairs = clicks * (sizes - clicks)
    return (total - clicks * (clicks + 1) / 2) / np.maximum(pairs, 1)


def _sum_by(group: np.ndarray, values: np.ndarray, groups: int) -> np.ndarray:
    return np.bincount(group, weights=values, minlength=groups)


def rank_metrics(ranks: np.ndarray, cutoffs: Sequence[int] = _CUTOFFS) -> dict[str, np.ndarray]:
    """Recall@k and nDCG@k of queries with one wanted item each, from its rank among the catalogue (1 is best)."""
    result = {}
    for k in cutoffs:
        found = ranks <= k
        result[f"recall@{k}"] = found.astype(float)
        result[f"ndcg@{k}"] = np.where(found, 1 / np.log2(ranks + 1.0), 0.0)
    return result


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % percentile bootstrap interval over `count` units."""

    mean: float
    low: float
    high: float
    count: int

    def as_dict(self) -> dict[str, float | int]:
        return {"mean": self.mean, "low": self.low, "high": self.high, "count": self.count}

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def bootstrap(values: Mapping[str, np.ndarray], *, seed: int, draws: int = 1000) -> dict[str, Estimate]:
    """Mean and interval of each metric; one set of resamples for all that are defined on the same rows.

    Rows that are NaN in a metric do not count for it. For a paired comparison give the difference of two columns.

    Raises:
        ValueError: A metric has no value at all: nothing was measured.
    """
    rng = np.random.default_rng(seed)
    result = {}
    names = list(values)
    by_mask: dict[bytes, list[str]] = {}
    for name in names:
        by_mask.setdefault(np.isnan(values[name]).tobytes(), []).append(name)
    for group in by_mask.values():
        table = np.stack([values[name] for name in group], axis=1)
        table = table[~np.isnan(table[:, 0])]
        if not len(table):
            raise ValueError(f"no example to measure {', '.join(group)} on")
        means = np.empty((draws, len(group)))
        for draw in range(draws):
            drawn = np.bincount(rng.integers(len(table), size=len(table)), minlength=len(table))
            means[draw] = drawn @ table / len(table)
        low, high = np.percentile(means, [2.5, 97.5], axis=0)
        for column, name in enumerate(group):
            result[name] = Estimate(float(table[:, column].mean()), float(low[column]), float(high[column]), len(table))
    return {name: result[name] for name in names}


def wilson(positives: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share (Wilson 1927)."""
    centre, spread = positives + z * z / 2, z * math.sqrt(positives * (1 - positives / trials) + z * z / 4)
    return max(0.0, (centre - spread) / (trials + z * z)), min(1.0, (centre + spread) / (trials + z * z))
