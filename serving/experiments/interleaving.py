"""Two rankings in one slate: who is preferred shows with a tenth of the users that an A/B test needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interleaved:
    """A slate of K items, and whose each is: 0 of the first ranking, 1 of the second, -1 where both had it there."""

    items: list[str]
    team: list[int]


def team_draft(first: Sequence[str], second: Sequence[str], count: int, seed: int) -> Interleaved:
    """Interleave two rankings (Radlinski, Kurup and Joachims 2008): in each round a coin says who picks first, and each
    picks its best item that is not there yet.

    Where both rankings begin alike, these items are nobody's: a click on one says nothing.

    Args:
        count: K.
        seed: Of the coins, such as a hash of the request.
    """
    rng, rankings = np.random.default_rng(seed), (list(first), list(second))
    items: list[str] = []
    team: list[int] = []
    for one, other in zip(*rankings, strict=False):
        if one != other or len(items) >= count:
            break
        items.append(one)
        team.append(-1)
    there = set(items)
    while len(items) < count:
        order = (0, 1) if rng.random() < 0.5 else (1, 0)
        before = len(items)
        for side in order:
            best = next((item for item in rankings[side] if item not in there), None)
            if best is not None and len(items) < count:
                there.add(best)
                items.append(best)
                team.append(side)
        if len(items) == before:
            break
    return Interleaved(items, team)


def preference(wins: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """(R,) of each request 1 where the second ranking's items were clicked more, -1 where the first's, 0 for neither.

    Args:
        wins, losses: (R,) clicks on the second's items, and on the first's.
    """
    return np.sign(wins - losses).astype(np.float64)
