"""A fingerprint of several windows, which knows how much they differ."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.monitoring.drift import sizes_of
from serving.monitoring.features import Feature
from serving.monitoring.fingerprint import Fingerprint

Features = Mapping[str, Feature]


def reference_of(
    windows: Sequence[Features],
    vectors: Features | None = None,
    *,
    hours: float,
    left_out: Sequence[str] = (),
    **of: Any,
) -> Fingerprint:
    """The windows together, with the largest difference between any two of them as `usual`.

    Args:
        windows: The features of each, by name. `drawn_with` has one meaning in all of them.
        vectors: Of all windows together.
        hours: Each window's length.
        left_out: Features of which only what is usual is kept.
        of: What else `Fingerprint.of` takes.
    """
    alone = [Fingerprint.of(each, source="a window", hours=hours) for each in windows]
    usual: dict[str, float] = {}
    for one, other in itertools.combinations(alone, 2):
        for name, size in sizes_of(one, other).items():
            usual[name] = max(size, usual.get(name, 0.0))
    names = [name for name in windows[0] if name not in left_out] if windows else []
    together = Fingerprint.of(
        {name: _together([each[name] for each in windows]) for name in names}, vectors, hours=hours, **of
    )
    return together.model_copy(update={"usual": usual})


def _together(parts: Sequence[Feature]) -> Feature:
    units = [part.drawn_with for part in parts if part.drawn_with is not None]
    known = np.concatenate(units) if len(units) == len(parts) else None
    return Feature(np.concatenate([part.values for part in parts]), known)
