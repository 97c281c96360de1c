"""How far a converted part, and what it recommends, is from the float one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.errors import Stopped
from pipelines.metrics import Estimate, bootstrap
from pipelines.progress import track
from pipelines.quantisation.histories import Histories
from pipelines.quantisation.recommend import Recommendations
from pipelines.quantisation.runners import Runner

# Of a float32 conversion, relative to the largest value where that is above 1.
FLOAT_TOLERANCE = 1e-4
CUTOFFS = (10, 50)
_NDCG_AT = 10


class Refused(Stopped):
    """A variant that converts and answers, but not well enough; `about` is what was measured of it."""

    def __init__(self, message: str, about: dict[str, Any]) -> None:
        super().__init__(message)
        self.about = about


def agreement(
    part: str, variant: str, found: Runner, expected: Runner, inputs: Iterable[dict[str, np.ndarray]]
) -> dict[str, float]:
    """Cosine (mean and smallest over calls) and largest difference of a part's outputs.

    Raises:
        Stopped: An output has another shape or is not finite; or the variant is float32 and differs.
    """
    cosines, largest, scale = [], 0.0, 1.0
    for each in inputs:
        wanted, got = expected(each), found(each)
        for name, right in wanted.items():
            if name not in got or got[name].shape != right.shape:
                raise Stopped(f"the converted {part} gives no {name} of shape {right.shape}.")
            if not np.isfinite(got[name]).all():
                raise Stopped(f"the converted {part} gives values of {name} that are not finite.")
            largest = max(largest, float(np.abs(got[name] - right).max(initial=0.0)))
            scale = max(scale, float(np.abs(right).max(initial=0.0)))
        main = max(wanted, key=lambda name: wanted[name].size)
        cosines.append(cosine(got[main], wanted[main]))
    if variant in ("float32", "onnx") and largest > FLOAT_TOLERANCE * scale:
        raise Stopped(f"the {part} converted in float32 differs from the original by {largest:.2e}.")
    return {"cosine": float(np.mean(cosines)), "smallest_cosine": min(cosines), "largest_difference": largest}


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of two arrays as vectors; 1 for two that are zero."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.vdot(one, other)) / lengths if lengths else float(np.array_equal(one, other))


@dataclass(frozen=True)
class Lists:
    """The best items of Q histories, rows (Q, K) of the index, 0 for none."""

    best: np.ndarray

    @classmethod
    def of(cls, recommendations: Recommendations, histories: Histories) -> Lists:
        rows = [
            recommendations.best(histories.row(query), histories.allowed(query), max(CUTOFFS))[0]
            for query in track(range(len(histories)), "recommending", len(histories))
        ]
        return cls(np.stack(rows))

    def kept(self, other: Lists, k: int) -> np.ndarray:
        """(Q,) the share of these lists' first `k` items that are among the first `k` of the other's; NaN for none."""
        share = np.full(len(self.best), np.nan)
        for query, (mine, theirs) in enumerate(zip(self.best[:, :k], other.best[:, :k], strict=True)):
            mine = mine[mine > 0]
            if len(mine):
                share[query] = np.isin(mine, theirs).mean()
        return share

    def ndcg(self, target: np.ndarray) -> np.ndarray:
        """(Q,) nDCG@10 with one wanted item each."""
        hit = self.best[:, :_NDCG_AT] == target[:, None]
        return (hit / np.log2(np.arange(hit.shape[1]) + 2)).sum(axis=1)


def compared(reference: Lists, found: Lists, target: np.ndarray) -> dict[str, Estimate]:
    """Recall kept at each cutoff, and the change of nDCG@10, with 95 % intervals over the histories."""
    change = found.ndcg(target) - reference.ndcg(target)
    kept = {f"recall@{k}": reference.kept(found, k) for k in CUTOFFS}
    return bootstrap(kept | {"ndcg@10_change": change}, seed=0)


def content_kept(users: np.ndarray, expected: np.ndarray, found: np.ndarray, k: int = 10) -> float:
    """The mean share of users' best `k` of some items that stay so where a converted tower embeds the items.

    Args:
        users: (U, D).
        expected, found: (I, D) the items' embeddings.
    """
    count = min(k, len(expected))

    def best(items: np.ndarray) -> np.ndarray:
        return np.argsort(-(users @ items.T), axis=1, kind="stable")[:, :count]

    pairs = zip(best(expected), best(found), strict=True)
    return float(np.mean([np.isin(mine, theirs).mean() for mine, theirs in pairs]))


def embeddings(content: Runner, inputs: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """(I, D) of single items."""
    return np.concatenate([content(each)["embedding"] for each in inputs])
