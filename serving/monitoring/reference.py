"""A fingerprint of several windows, which knows how much they differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
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
    also: Features | None = None,
    hours: float,
    left_out: Sequence[str] = (),
    **of: Any,
) -> Fingerprint:
    """The windows together, with the largest differences between two of them.

    Args:
        windows: The features of each, by name, in the order of time. `drawn_with` has one meaning in all of them.
        vectors, also: Of all windows together: vectors, and features that are not of each by itself.
        hours: Each window's length.
        left_out: Features of which only what is usual is kept.
        of: What else `Fingerprint.of` takes.
    """
    alone = [Fingerprint.of(each, source="a window", hours=hours) for each in windows]
    usual, usual_next = _largest(itertools.combinations(alone, 2)), _largest(itertools.pairwise(alone))
    names = [name for name in windows[0] if name not in left_out] if windows else []
    features = {name: _together([each[name] for each in windows]) for name in names} | dict(also or {})
    together = Fingerprint.of(features, vectors, hours=hours, **of)
    return together.model_copy(update={"usual": usual, "usual_next": usual_next})


def _largest(pairs: Iterable[tuple[Fingerprint, Fingerprint]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one, other in pairs:
        for name, size in sizes_of(one, other).items():
            found[name] = max(size, found.get(name, 0.0))
    return found


def _together(parts: Sequence[Feature]) -> Feature:
    def joined(columns: list[np.ndarray | None]) -> np.ndarray | None:
        known = [each for each in columns if each is not None]
        return np.concatenate(known) if len(known) == len(parts) else None

    values = np.concatenate([part.values for part in parts])
    return Feature(values, joined([part.drawn_with for part in parts]), joined([part.weights for part in parts]))
