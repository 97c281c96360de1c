"""Thompson sampling over variants: traffic follows what is probably best, instead of fixed shares."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_DRAWS = 20_000


def thompson_shares(
    successes: Mapping[str, float], trials: Mapping[str, float], *, seed: int, least: float = 0.0
) -> dict[str, float]:
    """The probability of each variant to have the highest rate, to be its share of the next users (Thompson 1933).

    Rates have a uniform prior. Shares change from batch to batch, so that the users of a batch, not of the whole, are
    comparable: the sequential test of `serving.experiments.sequential` does not hold for them.

    Args:
        successes, trials: By variant.
        least: Share that every variant keeps, so that one that changes is noticed.
        seed: Of the draws.

    Raises:
        ValueError: There are more successes than trials, or the least shares leave nothing.

    Example:
        >>> from serving import thompson_shares
        >>> shares = thompson_shares({"a": 90, "b": 120}, {"a": 1_000, "b": 1_000}, seed=1, least=0.1)
        >>> shares["b"] > 0.8, round(sum(shares.values()), 6)
        (True, 1.0)
    """
    names = list(trials)
    if any(not 0 <= successes[name] <= trials[name] for name in names):
        raise ValueError("a variant has more successes than trials")
    if not 0 <= least * len(names) <= 1:
        raise ValueError(f"{len(names)} variants cannot keep {least:.0%} each")
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.beta(1 + successes[name], 1 + trials[name] - successes[name], _DRAWS) for name in names])
    best = np.bincount(drawn.argmax(axis=0), minlength=len(names)) / _DRAWS
    return {name: float(least + (1 - least * len(names)) * share) for name, share in zip(names, best, strict=True)}
