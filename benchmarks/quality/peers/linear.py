"""Item-to-item peers: itemKNN, EASE, and EASE blended with the frozen text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.quality.peers.simple import fit_minilm
from benchmarks.quality.protocol import Fitted, Training, View
from pipelines.data.histories import Interactions
from pipelines.rankers import Queries, Ranker


@dataclass(frozen=True)
class ItemWeights:
    """Score = what the user has read, times (N, N) weights from item to item.

    Args:
        decay: Weight of an event relative to the one after it.
    """

    name: str
    interactions: Interactions
    weights: np.ndarray | sp.csr_matrix
    decay: float = 1.0

    def catalogue(self, queries: Queries, allowed: np.ndarray) -> np.ndarray:
        log = self.interactions
        row, place = log.spans(log.user_offsets[queries.user], queries.history_end)
        value = self.decay ** (queries.history_end[row] - 1.0 - place)
        read = sp.csr_matrix((value, (row, log.item[place] - 1)), shape=(len(queries), self.weights.shape[0]))
        scores = read @ self.weights
        scores = scores.toarray() if sp.issparse(scores) else np.asarray(scores)
        return np.where(allowed, scores, -np.inf)

    def pairs(self, queries: Queries, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        return _pairs_of_catalogue(self, queries, row, item, self.weights.shape[1])


@dataclass(frozen=True)
class Blend:
    """The sum of several rankers' scores, each standardised over what a query allows and weighted."""

    name: str
    parts: Sequence[Ranker]
    weights: Sequence[float]
    items: int

    def catalogue(self, queries: Queries, allowed: np.ndarray) -> np.ndarray:
        total = np.zeros(allowed.shape)
        count = np.maximum(allowed.sum(axis=1, keepdims=True), 1)
        for part, weight in zip(self.parts, self.weights, strict=True):
            scores = np.where(allowed, part.catalogue(queries, allowed.copy()), 0.0)
            centred = np.where(allowed, scores - scores.sum(axis=1, keepdims=True) / count, 0.0)
            spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
            total += weight * centred / np.where(spread > 0, spread, 1.0)
        return np.where(allowed, total, -np.inf)

    def pairs(self, queries: Queries, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        return _pairs_of_catalogue(self, queries, row, item, self.items)


def _pairs_of_catalogue(ranker: Ranker, queries: Queries, row: np.ndarray, item: np.ndarray, items: int) -> np.ndarray:
    scores = np.empty(len(row))
    for rows, block in queries.blocks(500):
        inside = (row >= rows.start) & (row < rows.stop)
        table = ranker.catalogue(block, np.ones((len(block), items), bool))
        scores[inside] = table[row[inside] - rows.start, item[inside]]
    return scores


def ease(matrix: sp.csr_matrix, regularisation: float) -> np.ndarray:
    """(N, N) item weights with a zero diagonal: embarrassingly shallow autoencoders (Steck 2019), in closed form.

    Dense: N items need 8 N^2 bytes several times over, so it is for catalogues of up to about 10,000 items.
    """
    gram = (matrix.T @ matrix).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += regularisation
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


@cache
def _ease(training: Training, regularisation: float) -> np.ndarray:
    return ease(training.matrix, regularisation)


def fit_ease(training: Training, *, regularisation: float, decay: float = 1.0) -> Fitted:
    weights = _ease(training, regularisation)
    return Fitted(
        lambda view: ItemWeights("EASE", view.behaviour.interactions, carry_square(training, weights, view), decay)
    )


def fit_ease_minilm(
    training: Training, *, regularisation: float, share: float, length: int, decay: float = 1.0
) -> Fitted:
    """EASE and the cosine of frozen MiniLM vectors, both standardised by query; `share` is the weight of MiniLM."""
    linear = fit_ease(training, regularisation=regularisation, decay=decay)
    text = fit_minilm(training, length=length)
    return Fitted(
        lambda view: Blend(
            "EASE + MiniLM", [linear.over(view), text.over(view)], [1 - share, share], len(view.catalogue)
        )
    )


def item_similarity(
    matrix: sp.csr_matrix, *, neighbours: int, activity: float = 0.0, popularity: float = 0.5
) -> sp.csr_matrix:
    """(N, N) cosine of two items' users, of which each row keeps the largest (Sarwar et al. 2001).

    Args:
        matrix: (U, N) who wanted what.
        neighbours: Kept of each item, and those equal to the last of them.
        activity: A user counts by the number of their items to the power of minus this.
        popularity: Power of the candidate's norm in the denominator; one half on both sides is the cosine, less
            favours popular candidates (Aiolli 2013).
    """
    count = np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1.0)
    weighted = sp.csr_matrix(sp.diags(count**-activity) @ matrix)
    similar = sp.csr_matrix(weighted.T @ weighted)
    norm = np.maximum(similar.diagonal(), 1e-12)
    similar.setdiag(0)
    similar.eliminate_zeros()
    similar = sp.csr_matrix(sp.diags(norm ** (popularity - 1)) @ similar @ sp.diags(norm**-popularity))
    for row in range(similar.shape[0]):
        values = similar.data[similar.indptr[row] : similar.indptr[row + 1]]
        if len(values) > neighbours:
            values[values < np.partition(values, -neighbours)[-neighbours]] = 0
    similar.eliminate_zeros()
    return similar


def fit_item_knn(training: Training, *, decay: float = 1.0, **settings: Any) -> Fitted:
    """itemKNN with the settings of `item_similarity`; `decay` below 1 weighs recent events more."""
    similar = item_similarity(training.matrix, **settings)
    return Fitted(
        lambda view: ItemWeights("itemKNN", view.behaviour.interactions, carry_square(training, similar, view), decay)
    )


def carry_square(training: Training, weights: np.ndarray | sp.csr_matrix, view: View) -> np.ndarray | sp.csr_matrix:
    """(N, N) item weights of a training for the items of `view`."""
    if view.catalogue is training.view.catalogue:
        return weights
    places = training.places(view)
    known = np.flatnonzero(places >= 0)
    shape = (len(places), len(view.catalogue))
    moved = sp.csr_matrix((np.ones(len(known)), (known, places[known])), shape=shape)
    return sp.csr_matrix(moved.T @ sp.csr_matrix(weights) @ moved)
