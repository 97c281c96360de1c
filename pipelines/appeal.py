"""Fits the appeal of content, and says what it is worth on requests that it was not fitted on."""

from __future__ import annotations

import numpy as np
import scipy.optimize

from pipelines.conditional_logit import Choices

_DAY = 86_400
# More requests than this are drawn down to it: 400 weights need no more.
_MOST_REQUESTS = 20_000


def fit_appeal(
    vectors: np.ndarray, offsets: np.ndarray, item: np.ndarray, clicked: np.ndarray, l2: float
) -> np.ndarray:
    """Weights (V,) of the conditional logit model of a click among what a request showed (McFadden 1974).

    Minimises the mean negative log-likelihood of the clicks of a slate, plus `l2` times the squared weights; it is
    convex, so there is one answer. Slates without a click, or with nothing else, say nothing.

    Args:
        vectors: (N + 1, V) inputs of each item; row 0 is unknown.
        offsets: (R + 1,) bounds of the slates in `item` and `clicked`.
        item: (S,) rows of `vectors`.
        clicked: (S,) bool.
    """
    choices = Choices.of(offsets, clicked, most=_MOST_REQUESTS)
    if not len(choices):
        return np.zeros(vectors.shape[1])
    # The same few items are shown over and over.
    shown, place = np.unique(item[choices.row], return_inverse=True)
    rows = vectors[shown].astype(np.float64)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        fit, slope = choices.loss((rows @ weights)[place])
        of_item = np.bincount(place, slope, minlength=len(shown))
        return fit + l2 * float(weights @ weights), of_item @ rows + 2 * l2 * weights

    found = scipy.optimize.minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x)


def cross_fitted(
    vectors: np.ndarray,
    offsets: np.ndarray,
    item: np.ndarray,
    clicked: np.ndarray,
    at: np.ndarray,
    l2: float,
    *,
    folds: int = 6,
) -> np.ndarray:
    """(S,) appeal of what was shown, each request judged by a model that has not seen its day.

    Folds are whole days: the same article is shown all day long, so that random folds would know their own answers.
    Where there is but one day, or no clock, they are stretches of time.
    """
    fold = folds_by_day(at, folds)
    sizes = np.diff(offsets)
    request_fold = np.repeat(fold, sizes)
    found = np.zeros(len(item))
    for held in np.unique(fold):
        rest = request_fold != held
        rest_offsets = np.r_[0, np.cumsum(sizes[fold != held])]
        weights = fit_appeal(vectors, rest_offsets, item[rest], clicked[rest], l2)
        found[~rest] = (vectors @ weights)[item[~rest]]
    return found


def folds_by_day(at: np.ndarray, most: int) -> np.ndarray:
    """(R,) fold of each request: its day, or its stretch of time where there are fewer than two days."""
    days, day = np.unique(at // _DAY, return_inverse=True)
    if len(days) < 2:
        order = np.argsort(at, kind="stable")
        fold = np.empty(len(at), np.int64)
        fold[order] = np.arange(len(at)) * most // max(1, len(at))
        return fold
    return day % most
