"""Small rankers of content features, learned from slates: logistic regression and LightGBM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from benchmarks.quality.peers.simple import one_hot
from benchmarks.quality.protocol import Fitted, Training, View
from pipelines.encode import text_vectors
from pipelines.judge import Slates
from pipelines.rankers import Queries, Ranker
from pipelines.recipe import Text

FEATURES = (
    "cosine to the mean of the history",
    "mean of the three largest cosines to the history",
    "TF-IDF cosine",
    "category share",
    "category share, recent first",
    "subcategory share",
    "subcategory share, recent first",
    "log of the history's length",
)
_LENGTH = 50
_DECAY = 0.9
_SMOOTHING = 20.0
_SEED = 42


@dataclass(frozen=True, eq=False)
class Contents:
    """The vectors of a view's items, from which the features of a pair are made."""

    view: View
    text: np.ndarray
    words: sp.csr_matrix
    category: sp.csr_matrix
    tag: sp.csr_matrix

    @classmethod
    @cache
    def of(cls, view: View) -> Contents:
        words = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english").fit_transform(view.catalogue.text)
        text = text_vectors(view.catalogue.text, Text())
        return cls(view, text, words.tocsr(), one_hot(view.catalogue.category), one_hot(view.tag))

    def features(self, queries: Queries, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(P, F) `FEATURES` of item[p] for query row[p]: the history before the query and the item, nothing else."""
        log = self.view.behaviour.interactions
        start = np.maximum(log.user_offsets[queries.user], queries.history_end - _LENGTH)
        of, place = log.spans(start, queries.history_end)
        size = np.bincount(of, minlength=len(queries))
        read = log.item[place] - 1
        recent = _DECAY ** (queries.history_end[of] - 1.0 - place)
        shape = (len(queries), len(self.view.catalogue))
        plain = _mean(sp.csr_matrix((np.ones(len(of)), (of, read)), shape=shape))
        late = _mean(sp.csr_matrix((recent, (of, read)), shape=shape))
        columns = np.zeros((len(row), len(FEATURES)))
        profile = normalize(plain @ self.text)
        columns[:, 0] = np.einsum("ij,ij->i", profile[row], self.text[item])
        columns[:, 1] = self._nearest(row, item, np.cumsum(size) - size, size, read)
        columns[:, 2] = _dot(normalize(plain @ self.words)[row], self.words[item])
        for column, (history, vectors) in enumerate(
            [(plain, self.category), (late, self.category), (plain, self.tag), (late, self.tag)], start=3
        ):
            columns[:, column] = _dot((history @ vectors)[row], vectors[item])
        columns[:, 7] = np.log1p(queries.history_end - log.user_offsets[queries.user])[row]
        return columns

    def _nearest(
        self, row: np.ndarray, item: np.ndarray, start: np.ndarray, size: np.ndarray, read: np.ndarray
    ) -> np.ndarray:
        """(P,) mean of the three largest cosines of an item to those read."""
        found = np.zeros(len(row))
        order = np.argsort(row, kind="stable")
        bounds = np.searchsorted(row[order], np.arange(len(size) + 1))
        for query in np.flatnonzero((size > 0) & (np.diff(bounds) > 0)):
            pairs = order[bounds[query] : bounds[query + 1]]
            cosine = self.text[item[pairs]] @ self.text[read[start[query] : start[query] + size[query]]].T
            few = min(3, cosine.shape[1])
            found[pairs] = np.partition(cosine, -few, axis=1)[:, -few:].mean(axis=1)
        return found


def _mean(matrix: sp.csr_matrix) -> sp.csr_matrix:
    return normalize(matrix, norm="l1")


def _dot(left: sp.csr_matrix, right: sp.csr_matrix) -> np.ndarray:
    return np.asarray(left.multiply(right).sum(axis=1)).ravel()


@dataclass(frozen=True)
class ClickRates:
    """Smoothed click rates of the shown items, by item id; what was not shown has the mean."""

    rates: dict[str, float]
    mean: float

    @classmethod
    def of(cls, item_ids: np.ndarray, clicked: np.ndarray) -> ClickRates:
        mean = float(clicked.mean()) if len(clicked) else 0.0
        ids, place = np.unique(item_ids.astype(str), return_inverse=True)
        shown, clicks = np.bincount(place), np.bincount(place, weights=clicked)
        rates = (clicks + _SMOOTHING * mean) / (shown + _SMOOTHING)
        return cls(dict(zip(ids, rates.tolist(), strict=True)), mean)

    def __call__(self, item_ids: np.ndarray) -> np.ndarray:
        return np.array([self.rates.get(item, self.mean) for item in item_ids])


@dataclass(frozen=True)
class ContentRanker:
    """Scores pairs by a model of their features."""

    name: str
    contents: Contents
    rates: ClickRates | None
    predict: Callable[[np.ndarray], np.ndarray]

    def pairs(self, queries: Queries, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        columns = self.contents.features(queries, row, item)
        if self.rates is not None:
            columns = np.column_stack([columns, self.rates(self.contents.view.catalogue.ids[item])])
        return self.predict(columns) if len(columns) else np.zeros(0)

    def catalogue(self, queries: Queries, allowed: np.ndarray) -> np.ndarray:
        scores = np.full(allowed.shape, -np.inf)
        for rows, block in queries.blocks(100):
            row, item = np.nonzero(allowed[rows])
            scores[rows][row, item] = self.pairs(block, row, item)
        return scores


@dataclass(frozen=True)
class Rows:
    """Training rows: features, label, request, by request."""

    features: np.ndarray
    clicked: np.ndarray
    request: np.ndarray


@cache
def _all_rows(view: View) -> tuple[np.ndarray, Slates]:
    slates = Slates.of(view.behaviour, np.ones(len(view.behaviour.requests), bool), known_only=True)
    row = np.repeat(np.arange(len(slates.queries)), np.diff(slates.offsets))
    return Contents.of(view).features(slates.queries, row, slates.item - 1), slates


def training_rows(training: Training, *, rates: bool) -> tuple[Rows, ClickRates | None]:
    """The shown items of the training's requests that have a click and an item left alone.

    With `rates`, the last column is the item's click rate **on the other days**: the rate of a row's own day holds its
    label.
    """
    view = training.view
    features, slates = _all_rows(view)
    request = np.repeat(np.arange(len(slates.queries)), np.diff(slates.offsets))
    clicks = np.bincount(request, weights=slates.clicked, minlength=len(slates.queries))
    usable = training.requests & (clicks > 0) & (clicks < np.diff(slates.offsets))
    chosen = usable[request]
    features, clicked, item = features[chosen], slates.clicked[chosen], slates.item[chosen]
    if not rates:
        return Rows(features, clicked, request[chosen]), None
    requests = view.behaviour.requests
    shown = np.repeat(training.requests, np.diff(requests.offsets))
    day = np.repeat(requests.at // 86_400, np.diff(requests.offsets))
    of_row = (requests.at // 86_400)[request[chosen]]
    column = np.empty(len(clicked))
    for each in np.unique(of_row):
        others = ClickRates.of(requests.item_ids[shown & (day != each)], requests.clicked[shown & (day != each)])
        column[of_row == each] = others(view.catalogue.ids[item[of_row == each] - 1])
    rows = Rows(np.column_stack([features, column]), clicked, request[chosen])
    return rows, ClickRates.of(requests.item_ids[shown], requests.clicked[shown])


def fit_logistic(training: Training, *, strength: float, rates: bool) -> Fitted:
    """Logistic regression on features centred by slate: what is common to a slate cannot order it.

    Args:
        strength: sklearn's C, the inverse of the L2 penalty.
        rates: Whether the click rate of the training is a feature.
    """
    from sklearn.linear_model import LogisticRegression

    rows, known_rates = training_rows(training, rates=rates)
    _, slate = np.unique(rows.request, return_inverse=True)
    mean = np.stack([np.bincount(slate, weights=column) for column in rows.features.T], axis=1)
    mean /= np.bincount(slate)[:, None]
    centred = rows.features - mean[slate]
    spread = centred.std(axis=0)
    spread[spread == 0] = 1.0
    model = LogisticRegression(C=strength, max_iter=1000).fit(centred / spread, rows.clicked)
    weights = model.coef_[0] / spread
    return _fitted("logistic regression on content", known_rates, lambda columns: columns @ weights)


def fit_lightgbm(training: Training, *, leaves: int, smallest: int, trees: int, rates: bool) -> Fitted:
    """LambdaMART (Burges 2010) by LightGBM."""
    import lightgbm

    rows, known_rates = training_rows(training, rates=rates)
    _, sizes = np.unique(rows.request, return_counts=True)
    settings: dict[str, Any] = {
        "objective": "lambdarank",
        "num_leaves": leaves,
        "min_data_in_leaf": smallest,
        "learning_rate": 0.05,
        "lambda_l2": 10.0,
        "seed": _SEED,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(rows.features, label=rows.clicked.astype(int), group=sizes)
    model = lightgbm.train(settings, data, num_boost_round=trees)
    return _fitted("LightGBM on content", known_rates, lambda columns: np.asarray(model.predict(columns)))


def _fitted(name: str, rates: ClickRates | None, predict: Callable[[np.ndarray], np.ndarray]) -> Fitted:
    def over(view: View) -> Ranker:
        return ContentRanker(name, Contents.of(view), rates, predict)

    return Fitted(over)
