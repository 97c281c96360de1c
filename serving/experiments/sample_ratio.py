"""Whether the arms have the users that they should: where not, something is broken, and no metric can be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping

_PRIOR = 100.0  # users' worth of belief in the planned shares; what it detects soonest is a shift of some percent


def sample_ratio_evidence(counts: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """Evidence against the planned shares, an e-value: valid at every look, and above 1 / alpha in a share alpha of
    sound experiments at most.

    The multinomial test of Lindon and Malek (2022): a Dirichlet mixture around the shares over the shares themselves.

    Args:
        counts: Users by variant.
        shares: Planned, by the same variants.
    """
    if counts.keys() != shares.keys():
        raise ValueError("the counts are not of the variants that were planned")
    users = sum(counts.values())
    found = math.lgamma(_PRIOR) - math.lgamma(_PRIOR + users)
    for name, count in counts.items():
        prior = _PRIOR * shares[name]
        found += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(shares[name])
    return math.exp(min(found, 700.0))
