"""Peers that learn nothing or count: popularity, newest, category match, TF-IDF, frozen text vectors."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from benchmarks.quality.protocol import Fitted, Training, View
from pipelines.encode import text_vectors
from pipelines.rankers import FixedOrder, HistoryProfile, Ranker, popularity, tfidf_profile
from pipelines.recipe import Text


def fit_popularity(training: Training) -> Fitted:
    """How often an item was wanted."""
    counts = popularity(training.view.behaviour.interactions.item[training.positives], len(training.view.catalogue))
    return Fitted(lambda view: FixedOrder("popularity", training.carry(counts, view)))


def fit_recent_popularity(training: Training, *, hours: float) -> Fitted:
    """How often an item was wanted in the last hours of the training."""
    log = training.view.behaviour.interactions
    at = log.at[training.positives]
    late = at >= (at.max() - hours * 3600 if len(at) else 0)
    counts = popularity(log.item[training.positives][late], len(training.view.catalogue))
    return Fitted(lambda view: FixedOrder("popularity", training.carry(counts, view)))


def fit_newest(training: Training, *, unseen_first: bool = False) -> Fitted:
    """By the time of publication; where no item has one, by the first time that it was shown to or wanted by anybody.

    Args:
        unseen_first: Whether an item that the training never saw counts as the newest of all or as the oldest.
    """

    def over(view: View) -> Ranker:
        published = view.catalogue.published_at
        if (published > np.iinfo(np.int64).min).any():
            return FixedOrder("newest", published.astype(float))
        unseen = 1e18 if unseen_first else -1.0
        first = np.where(np.isinf(_first_seen(training)), unseen, _first_seen(training))
        return FixedOrder("newest", training.carry(first, view, missing=unseen))

    return Fitted(over)


def _first_seen(training: Training) -> np.ndarray:
    """(N,) seconds since 1970; infinity for never."""
    log, requests = training.view.behaviour.interactions, training.view.behaviour.requests
    first = np.full(len(training.view.catalogue) + 1, np.inf)
    np.minimum.at(first, log.item[training.positives], log.at[training.positives].astype(float))
    sizes = np.diff(requests.offsets)
    shown = np.repeat(training.requests, sizes)
    np.minimum.at(first, requests.item[shown], np.repeat(requests.at, sizes)[shown].astype(float))
    return first[1:]


def fit_category(training: Training, *, decay: float, by: str = "category") -> Fitted:
    """The share of a user's history that has the item's category, recent events first."""

    def over(view: View) -> Ranker:
        vectors = one_hot(view.catalogue.category if by == "category" else view.tag)
        return HistoryProfile("category match", view.behaviour.interactions, vectors, vectors, decay=decay)

    return Fitted(over)


def one_hot(values: np.ndarray) -> sp.csr_matrix:
    """(N, V) of N strings; a row of zeros where there is none."""
    distinct, place = np.unique(values.astype(str), return_inverse=True)
    known = np.flatnonzero(values != "")
    return sp.csr_matrix((np.ones(len(known)), (known, place[known])), shape=(len(values), len(distinct)))


def fit_tfidf(training: Training, *, length: int) -> Fitted:
    """Cosine of TF-IDF vectors with the mean of the last `length` of the history."""
    return Fitted(lambda view: tfidf_profile(view.catalogue, view.behaviour.interactions, length))


def fit_minilm(training: Training, *, length: int, decay: float = 1.0) -> Fitted:
    """Cosine of frozen MiniLM vectors of title and text with the mean of the last `length` of the history."""

    def over(view: View) -> Ranker:
        vectors = text_vectors(view.catalogue.text, Text())
        return HistoryProfile("MiniLM", view.behaviour.interactions, vectors, vectors, decay=decay, length=length)

    return Fitted(over)
