"""What can rank items. One evaluator serves them all, on the same rows.

A user tower, popularity, TF-IDF and itemKNN are two matrices each, score = query . item: what differs is the width and
whether the matrix is sparse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from pipelines.data.catalogue import Catalogue
from pipelines.data.histories import Interactions

Matrix: TypeAlias = Any  # np.ndarray or scipy.sparse.csr_matrix
_PAIRS_AT_ONCE = 50_000
_ENTRIES_AT_ONCE = 10_000_000  # of a product of sparse matrices


@dataclass(frozen=True)
class Queries:
    """Q moments at which a user is to get a ranking: place of the user, end of the history, seconds since 1970.

    `device` (Q,) str is where known what the user asks from, "" or no array at all where it is not.
    """

    user: np.ndarray
    history_end: np.ndarray
    at: np.ndarray
    device: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, rows: slice | np.ndarray) -> Queries:
        device = None if self.device is None else self.device[rows]
        return Queries(self.user[rows], self.history_end[rows], self.at[rows], device)

    def blocks(self, size: int) -> Iterator[tuple[slice, Queries]]:
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, self[rows]


class Ranker(Protocol):
    """Scores items for queries; the higher, the better. Items are places in the catalogue, from 0."""

    @property
    def name(self) -> str: ...

    def pairs(self, queries: Queries, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(P,) the score of item[p] for query row[p]."""
        ...

    def catalogue(self, queries: Queries, allowed: np.ndarray) -> np.ndarray:
        """(Q, N) the score of every item; minus infinity where `allowed` (Q, N) is false."""
        ...


class DotProduct:
    """A ranker whose score is query . item: `items` has a row per item, `embed(queries)` a row per query."""

    @property
    def items(self) -> Matrix:
        raise NotImplementedError

    def embed(self, queries: Queries) -> Matrix:
        raise NotImplementedError

    def pairs(self, queries: Queries, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        query, items = self.embed(queries), self.items
        scores = np.empty(len(row))
        for start in range(0, len(row), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            left, right = query[row[part]], items[item[part]]
            if sp.issparse(left):
                scores[part] = np.asarray(left.multiply(right).sum(axis=1)).ravel()
            else:
                scores[part] = np.einsum("ij,ij->i", left, right)
        return scores

    def catalogue(self, queries: Queries, allowed: np.ndarray) -> np.ndarray:
        scores = self.embed(queries) @ self.items.T
        scores = scores.toarray() if sp.issparse(scores) else np.asarray(scores)
        scores[~allowed] = -np.inf
        return scores


@dataclass(frozen=True)
class FixedOrder(DotProduct):
    """The same ranking for everybody: popularity, newest first."""

    name: str
    values: np.ndarray

    @property
    def items(self) -> Matrix:
        return self.values[:, None].astype(np.float64)

    def embed(self, queries: Queries) -> Matrix:
        return np.ones((len(queries), 1))


@dataclass(frozen=True)
class HistoryProfile(DotProduct):
    """The weighted sum of what the user has read, in any item space: cosine profiles and itemKNN.

    Args:
        profiles: (N, D) what an item adds to the query.
        candidates: (N, D) what the query is multiplied with.
        decay: Weight of an event relative to the one after it; 1 is the plain sum.
        length: Only the last events count; None is the whole history.
    """

    name: str
    interactions: Interactions
    profiles: Matrix
    candidates: Matrix
    decay: float = 1.0
    length: int | None = None

    @property
    def items(self) -> Matrix:
        return self.candidates

    def embed(self, queries: Queries) -> Matrix:
        log = self.interactions
        start = log.user_offsets[queries.user]
        if self.length is not None:
            start = np.maximum(start, queries.history_end - self.length)
        row, place = log.spans(start, queries.history_end)
        weight = self.decay ** (queries.history_end[row] - 1.0 - place)
        read = sp.csr_matrix((weight, (row, log.item[place] - 1)), shape=(len(queries), self.profiles.shape[0]))
        return read @ self.profiles


def popularity(item: np.ndarray, items: int) -> np.ndarray:
    """How often each of the N items occurs in `item` (rows of the catalogue + 1)."""
    return np.bincount(item, minlength=items + 1)[1:].astype(float)


def tfidf_profile(catalogue: Catalogue, interactions: Interactions, length: int) -> HistoryProfile:
    """Cosine of an item's TF-IDF vector with the mean of the history's."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english")
    try:
        vectors = vectorizer.fit_transform(catalogue.text).tocsr()
    except ValueError:  # no two items share a word
        vectors = sp.csr_matrix((len(catalogue), 0))
    return HistoryProfile("tf-idf profile", interactions, vectors, vectors, length=length)


def text_profile(vectors: np.ndarray, interactions: Interactions, length: int) -> HistoryProfile:
    """Cosine of an item's frozen text vector with the mean of the history's. `vectors` (N, T), of unit length."""
    return HistoryProfile("frozen text cosine", interactions, vectors, vectors, length=length)


@dataclass(frozen=True)
class ItemSimilarity:
    """(N, N) similarity of items, a row the neighbours of an item."""

    matrix: sp.csr_matrix

    def over(self, interactions: Interactions, name: str, *, decay: float = 1.0) -> HistoryProfile:
        """Rank by the summed similarity to a user's history; with `decay` below 1 recent events count more."""
        same = sp.identity(self.matrix.shape[0], format="csr")
        return HistoryProfile(name, interactions, self.matrix, same, decay=decay)


def item_knn(user: np.ndarray, item: np.ndarray, items: int, *, neighbours: int = 200) -> ItemSimilarity:
    """Item-based collaborative filtering: cosine of two items' sets of users (Sarwar et al. 2001).

    Args:
        user, item: Who wanted what; items are rows of the catalogue + 1, 0 is left out.
        neighbours: Kept of each item.
    """
    users, user = np.unique(user[item > 0], return_inverse=True)
    item = item[item > 0]
    read = sp.csr_matrix((np.ones(len(item)), (user, item - 1)), shape=(max(1, len(users)), items))
    read.data[:] = 1.0
    read = normalize(read, axis=0).tocsr()
    # The product of the whole may have a million times what is kept of it: it is made and cut a few rows at a time.
    readers = read.T.tocsr()
    most = np.minimum(readers.astype(bool).astype(int) @ np.diff(read.indptr), items)
    starts = np.flatnonzero(np.diff(np.cumsum(most) // _ENTRIES_AT_ONCE, prepend=-1))
    blocks = []
    for start, end in pairwise([*starts, items]):
        similar = (readers[start:end] @ read).tocsr()
        similar.setdiag(0, k=start)
        similar.eliminate_zeros()
        blocks.append(_strongest(similar, neighbours))
    return ItemSimilarity(sp.vstack(blocks, format="csr"))


def _strongest(matrix: sp.csr_matrix, count: int) -> sp.csr_matrix:
    """Keep the `count` largest entries of each row."""
    for row in range(matrix.shape[0]):
        values = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]
        if len(values) > count:
            values[values < np.partition(values, -count)[-count]] = 0
    matrix.eliminate_zeros()
    return matrix
