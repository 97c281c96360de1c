"""One value a user, from what was counted: ratios made linear, and noise taken out that was there before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ratio_values(numerator: Sequence[np.ndarray], denominator: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values whose mean in an arm is its ratio, such as clicks by impressions, up to terms of second order.

    Users, not impressions, are independent: the delta method, as values (Deng, Knoblich and Lu 2018). Every arm is made
    linear around its own ratio.

    Args:
        numerator, denominator: (U,) for each arm; somebody who saw nothing has 0 in both.

    Raises:
        ValueError: An arm has a denominator of 0 throughout.
    """
    found = []
    for above, below in zip(numerator, denominator, strict=True):
        mean = below.mean() if len(below) else 0.0
        if not mean > 0:
            raise ValueError("an arm has no denominator: nobody in it saw anything")
        ratio = above.mean() / mean
        found.append(ratio + (above - ratio * below) / mean)
    return found


def adjusted(values: Sequence[np.ndarray], before: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values without what the time before the experiment predicts of them: CUPED (Deng, Xu, Kohavi and Walker 2013).

    The slope is that within the arms, pooled, so that an effect does not bias it. The means of arms move by no more
    than their difference in `before`, which is chance.

    Args:
        values, before: (U,) for each arm; `before` must not be touched by the experiment.
    """
    centred = [each - each.mean() for each in before]
    spread = sum(float(each @ each) for each in centred)
    if spread <= 0:
        return list(values)
    slope = sum(float(each @ (own - own.mean())) for each, own in zip(centred, values, strict=True)) / spread
    mean = float(np.concatenate(before).mean())
    return [own - slope * (each - mean) for own, each in zip(values, before, strict=True)]
