"""Text vectors between those of a thin class's items, by imbalanced-learn."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.balance.classes import Classes
from pipelines.data.positives import Positives
from pipelines.data.views import Views
from pipelines.recipe import Synthetic


def synthetic(
    classes: Classes,
    positives: Positives,
    text: np.ndarray,
    settings: Synthetic,
    begin: int,
    seed: int,
) -> tuple[Positives, Views, dict[str, Any]]:
    """Positives of thin classes whose item is seen as a new vector between real ones, and these vectors as views.

    SMOTE (Chawla et al. 2002) draws an item of the class, one of its nearest neighbours there, and a point between
    them; Borderline-SMOTE (Han et al. 2005) and ADASYN (He et al. 2008) draw where other classes are near, and
    SMOTE-ENN (Batista et al. 2004) leaves out what its neighbours would not take for the class. All distances are
    between items, one point each however often it was read.

    A synthetic vector is made as long again as those of items are, and stands for the item of its class that it is
    nearest to: that item's category, tags and language go with it, its id does not, and it is wanted by a reader of
    that item, drawn among them. Real items are never left out.

    Args:
        text: (N + 1, T) vectors of the items; one that is zero is not there.
        begin: Row of the first view.

    Returns:
        Positives, their views, and a report: vectors by class, and why a class has none.
    """
    items = np.unique(positives.item)
    items = items[np.linalg.norm(text[items], axis=1) > 0]
    unit = text / np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-12)
    of = classes.of_item[items]
    rng = np.random.default_rng((seed, 2))
    added: list[Positives] = []
    stands_for: list[np.ndarray] = []
    vectors: list[np.ndarray] = []
    made, left_out = np.zeros(len(classes.names), np.int64), dict[str, str]()
    for place, count in enumerate(classes.missing(positives, settings)):
        if not count:
            continue
        try:
            found = _drawn(unit[items], of == place, int(count), settings, int(rng.integers(2**31)))
        except _NotPossible as reason:
            left_out[classes.names[place]] = str(reason)
            continue
        # ADASYN keeps to the number wanted within rounding alone.
        found = found[:count] / np.linalg.norm(found[:count], axis=1, keepdims=True)
        mine = items[of == place]
        nearest = mine[_nearest(found, unit[mine])]
        readers = _readers(positives, nearest, rng)
        first = begin + int(made.sum())
        added.append(replace(positives[readers], view=np.arange(first, first + len(found), dtype=np.int32)))
        stands_for.append(nearest)
        vectors.append(found * np.linalg.norm(text[nearest], axis=1, keepdims=True))
        made[place] = len(found)
    report = {"method": settings.method, "added": int(made.sum()), "by_class": classes.named(made)}
    whole = sum(added[1:], added[0]) if added else Positives.none()
    width = text.shape[1]
    views = Views(
        begin,
        np.concatenate([np.zeros(0, np.int32), *stands_for]).astype(np.int32),
        np.concatenate([np.zeros((0, width), np.float32), *vectors]).astype(np.float32),
        np.zeros(len(whole), bool),
        np.zeros(len(whole), bool),
    )
    return whole, views, report | ({"left_out": left_out} if left_out else {})


class _NotPossible(Exception):
    """A class cannot be sampled; the message says why."""


def _drawn(vectors: np.ndarray, mine: np.ndarray, count: int, settings: Synthetic, seed: int) -> np.ndarray:
    """(count,) or fewer points between those vectors that are `mine` (M,) bool.

    Raises:
        _NotPossible: There are none.
    """
    from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE
    from imblearn.under_sampling import EditedNearestNeighbours

    size = int(mine.sum())
    if size < 2:
        raise _NotPossible("one item has no neighbour" if size else "no item has a text")
    if size == len(mine):
        raise _NotPossible("there is no other class")
    # imbalanced-learn counts an item among its own neighbours, or not, by the method; fewer than wanted will do.
    few, near = min(settings.neighbours, size - 1), min(2 * settings.neighbours, len(mine) - 1)
    common = {"sampling_strategy": {1: size + count}, "random_state": seed}
    sampler = {
        "smote": lambda: SMOTE(k_neighbors=few, **common),
        "smote_enn": lambda: SMOTE(k_neighbors=few, **common),
        "borderline_smote": lambda: BorderlineSMOTE(k_neighbors=few, m_neighbors=near, **common),
        "adasyn": lambda: ADASYN(n_neighbors=few, **common),
    }[settings.method]()
    with warnings.catch_warnings():
        # Of items a thin class of positives may have more than the others.
        warnings.filterwarnings("ignore", message="After over-sampling", category=UserWarning)
        try:
            found, labels = sampler.fit_resample(vectors, mine.astype(int))
        except (ValueError, RuntimeError) as error:
            if settings.method != "adasyn":
                raise
            raise _NotPossible("none of its items has a neighbour of another class") from error
        new = np.arange(len(found)) >= len(mine)
        if settings.method == "smote_enn":
            cleaner = EditedNearestNeighbours(sampling_strategy="all", n_neighbors=min(3, len(found) - 1))
            cleaner.fit_resample(found, labels)
            new &= np.isin(np.arange(len(found)), cleaner.sample_indices_)
    if not new.any():
        what = "other classes surround all points" if settings.method == "smote_enn" else "no item is at a border"
        raise _NotPossible(what)
    return found[new]


def _nearest(points: np.ndarray, vectors: np.ndarray, at_once: int = 1024) -> np.ndarray:
    """(P,) which of the vectors (M, T) has the largest product with each point (P, T)."""
    blocks = [(points[start : start + at_once] @ vectors.T).argmax(axis=1) for start in range(0, len(points), at_once)]
    return np.concatenate(blocks)


def _readers(positives: Positives, items: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(P,) a positive of each of the items (P,), drawn."""
    order = np.argsort(positives.item, kind="stable")
    ordered = positives.item[order]
    start, end = np.searchsorted(ordered, items, "left"), np.searchsorted(ordered, items, "right")
    return order[start + rng.integers(0, end - start)]
