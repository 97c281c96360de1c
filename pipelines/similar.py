"""Which items of the training part are most similar: by their texts, or without texts by who read them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from pipelines.data.augmentation import HistoryVariation
from pipelines.data.splits import Part
from pipelines.item_table import text_table
from pipelines.prepare import Prepared
from pipelines.recipe import Recipe

_VALUES_AT_ONCE = 20_000_000


def history_variation(recipe: Recipe, data: Prepared) -> HistoryVariation | None:
    """How a recipe varies the histories of training; None where it does not."""
    settings = recipe.augmentation.history if recipe.augmentation is not None else None
    if settings is None or not settings.used:
        return None
    similar = np.zeros((len(data.catalogue) + 1, 1), np.int32)
    if settings.substitute:
        similar = similar_items(recipe, data, settings.neighbours)
    return HistoryVariation(settings, similar, data.catalogue.published_at)


def similar_items(recipe: Recipe, data: Prepared, most: int, group: np.ndarray | None = None) -> np.ndarray:
    """(N + 1, K) int32 rows of the items most similar to each, the most similar first, 0 where there are fewer.

    By the cosine of the frozen text vectors, or where the recipe reads no text, of the sets of users who read them
    (itemKNN). Only items with a positive in the training part have any, or are any: of others training knows nothing.

    Args:
        most: K, at most.
        group: (N + 1,) of which only items of the same value are similar.
    """
    log = data.behaviour.interactions
    train = data.parts.interactions == Part.TRAIN
    rows = np.unique(log.item[train])
    if recipe.features.text is not None:
        vectors = _unit(text_table(data.catalogue, recipe.features.text)[rows])
        return _nearest(rows, len(data.catalogue) + 1, most, group, lambda block: vectors[block] @ vectors.T)
    pair = np.unique(np.stack([log.user[train], np.searchsorted(rows, log.item[train])]), axis=1)
    shape = (len(log.user_offsets) - 1, len(rows))
    read = sp.csc_matrix((np.ones(pair.shape[1], np.float32), (pair[0], pair[1])), shape=shape)
    read = read @ sp.diags(1 / np.sqrt(np.maximum(1, read.sum(axis=0).A1)), dtype=np.float32)
    users = read.T.tocsr()
    return _nearest(rows, len(data.catalogue) + 1, most, group, lambda block: (users[block] @ read).toarray())


def _nearest(
    rows: np.ndarray, size: int, most: int, group: np.ndarray | None, scores_of: Callable[[slice], np.ndarray]
) -> np.ndarray:
    found = np.zeros((size, max(1, min(most, len(rows) - 1))), np.int32)
    count = found.shape[1]
    at_once = max(1, _VALUES_AT_ONCE // max(1, len(rows)))
    for start in range(0, len(rows), at_once):
        block = slice(start, min(start + at_once, len(rows)))
        scores = scores_of(block)
        scores[np.arange(len(scores)), np.arange(block.start, block.stop)] = -np.inf
        if group is not None:
            scores[group[rows[block]][:, None] != group[rows]] = -np.inf
        # Of all but the last few there is no order.
        best = np.argpartition(-scores, min(count, scores.shape[1] - 1), axis=1)[:, :count]
        value = np.take_along_axis(scores, best, axis=1)
        order = np.lexsort((best, -value), axis=1)
        ordered = np.take_along_axis(value, order, axis=1)
        found[rows[block]] = np.where(ordered > 0, rows[np.take_along_axis(best, order, axis=1)], 0)
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
