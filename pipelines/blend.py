"""Learns what the members of an ensemble are worth beside each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize

from pipelines.conditional_logit import Choices
from pipelines.fit import Validation
from pipelines.judge import CatalogueTargets, unseen
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared
from pipelines.rankers import Queries

# Not chosen beside each target; more would only make the same weights surer.
_NEGATIVES = 500
_LEAST = 0.02
_PAIRS_AT_ONCE = 50_000
# Squared distance of a slice's weights from those of all, in units of the loss of as many queries.
_PULL = 20.0


@dataclass(frozen=True)
class Offers:
    """What members said of items, some of which were wanted: pairs laid end to end, by query.

    Attributes:
        scores: (P, M) of each member, unweighted.
        offsets: (Q + 1,) bounds of the queries.
        wanted: (P,) bool.
        slice_of: (P,) int, 0 for unknown.
    """

    scores: np.ndarray
    offsets: np.ndarray
    wanted: np.ndarray
    slice_of: np.ndarray


def offers(data: Prepared, validation: Validation, ranker: ModelRanker, widths: list[int], by: str) -> Offers:
    """The validation part's queries, with the slates that were shown, or with items drawn from the catalogue.

    Args:
        ranker: The ensemble, every weight 1.
        widths: (M,) of the members' embeddings.
        by: As `Ensemble.weights`.
    """
    judge = validation.judge
    if isinstance(judge, CatalogueTargets):
        row, item, wanted = _against_catalogue(data, judge)
    else:
        known = judge.item > 0
        row, item, wanted = judge.request()[known], judge.item[known] - 1, judge.clicked[known]
    queries = judge.queries
    ends = np.cumsum(widths)
    user, items = ranker.embed(queries), ranker.items
    scores = np.empty((len(row), len(widths)))
    for begin in range(0, len(row), _PAIRS_AT_ONCE):
        part = slice(begin, begin + _PAIRS_AT_ONCE)
        for place, (start, end) in enumerate(zip(ends - widths, ends, strict=True)):
            scores[part, place] = np.einsum("pd,pd->p", user[row[part], start:end], items[item[part], start:end])
    offsets = np.searchsorted(row, np.arange(len(queries) + 1))
    return Offers(scores, offsets, wanted, _slices(ranker, queries, by, row, item))


def _slices(ranker: ModelRanker, queries: Queries, by: str, row: np.ndarray, item: np.ndarray) -> np.ndarray:
    if by == "all":
        return np.zeros(len(row), np.int64)
    if by == "category":
        return ranker.model.items.category.numpy()[item + 1]
    return ranker.window.batch(queries.user, queries.history_end, queries.at, queries.device)[by][row]


def _against_catalogue(data: Prepared, judge: CatalogueTargets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each target and items drawn from what its user could have been recommended instead."""
    rng, items = np.random.default_rng(0), len(data.catalogue)
    rows, found, wanted = [], [], []
    for part, block in judge.queries.blocks(200):
        allowed = data.catalogue.on_offer(block.at) & unseen(data.behaviour, block, items)
        for place, target in enumerate(judge.target[part]):
            allowed[place, target] = False
            others = np.flatnonzero(allowed[place])
            drawn = np.r_[target, rng.choice(others, min(_NEGATIVES, len(others)), replace=False)]
            rows.append(np.full(len(drawn), part.start + place))
            found.append(drawn)
            wanted.append(np.arange(len(drawn)) == 0)
    return np.concatenate(rows), np.concatenate(found), np.concatenate(wanted)


def fit_weights(found: Offers, slices: int) -> np.ndarray:
    """(S + 1, M) weights, none below zero, that make what was wanted most likely (conditional logit).

    Row 0, of all queries, is also for what is in no slice; the others are drawn towards it, the more the fewer queries
    they have.
    """
    choices = Choices.of(found.offsets, found.wanted)
    members = found.scores.shape[1]
    if not len(choices):
        return np.ones((slices + 1, members))
    # On one scale, so that the pull is as strong on each.
    spread = found.scores.std(axis=0)
    spread[spread == 0] = 1.0
    scores, place = found.scores[choices.row] / spread, found.slice_of[choices.row]
    pull = _PULL / len(choices)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(slices + 1, members)
        total = weights[0] + np.where(place[:, None] > 0, weights[place], 0.0)
        fit, slope = choices.loss((scores * total).sum(axis=1))
        change = np.zeros_like(weights)
        np.add.at(change, place, slope[:, None] * scores)
        change[0] = slope @ scores
        change[1:] += 2 * pull * weights[1:]
        return fit + pull * float((weights[1:] ** 2).sum()), change.ravel()

    bounds = [(0.0, None)] * members + [(None, None)] * (slices * members)
    start = np.r_[np.ones(members), np.zeros(slices * members)]
    answer = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights = answer.x.reshape(slices + 1, members)
    weights[1:] += weights[0]
    weights = np.maximum(weights, 0.0)
    # A member that is worth nothing to anybody keeps a trace, on which a factor can be tried.
    weights[:, ~weights.any(axis=0)] = _LEAST * weights.max()
    return weights / spread
