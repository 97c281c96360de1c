"""Fits the linear item-to-item model in closed form, and chooses its settings on the validation part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from pipelines.data.catalogue import places
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.fit import Validation
from pipelines.members import linear_rank
from pipelines.prepare import Prepared
from pipelines.progress import say
from pipelines.rankers import HistoryProfile
from pipelines.recipe import Linear


@dataclass(frozen=True)
class LinearFit:
    """Weights of `towers.linear`, and the settings that gave them."""

    table: np.ndarray  # (V + 1, K + 1)
    sign: np.ndarray  # (K,)
    covariance: np.ndarray  # (K, K)
    regularisation: float
    decay: float

    def put(self, items: Any, history: Any) -> None:
        """Set the weights of a `LinearItems` and a `LinearHistory`."""
        items.table.assign(self.table)
        history.sign.assign(self.sign)
        history.covariance.assign(self.covariance)
        history.decay.assign(self.decay)


def fit_linear(
    data: Prepared, settings: Linear, validation: Validation | None, before: LinearFit | None = None
) -> LinearFit:
    """EASE (Steck 2019) on the training part, by its strongest eigenvectors; recent events first where that is better.

    Dense: V items need 8 V^2 bytes several times over, so only the `settings.items` most read are in it.

    Args:
        validation: Chooses among the settings; without it the first of each is taken.
        before: Take its settings.

    Raises:
        BadInput: The data are slates.
    """
    if data.on_requests:
        raise BadInput("ensemble.linear learns from interactions, not slates: set data.examples to interactions.")
    place = places(data.catalogue.ids, data.vocabulary.items)
    log = data.behaviour.interactions
    trained = data.parts.interactions == Part.TRAIN
    count = np.bincount(place[log.item[trained]], minlength=len(data.vocabulary.items) + 1)
    known = np.sort(np.argsort(-count[1:], kind="stable")[: settings.items]) + 1
    column = np.full(len(count), -1)
    column[known] = np.arange(len(known))
    where = column[place[log.item]]
    rows = np.flatnonzero(trained & (where >= 0))
    read = sp.csr_matrix((np.ones(len(rows)), (log.user[rows], where[rows])), (len(log.user_ids), len(known)))
    read.data[:] = 1.0
    gram = (read.T @ read).toarray().astype(np.float64)
    best = (-np.inf, settings.regularisation[0], settings.decay[0])
    if before is not None:
        best = (0.0, before.regularisation, before.decay)
    elif validation is not None:
        of_row = column[place][1:]
        held = np.flatnonzero(of_row >= 0)
        of_item = sp.csr_matrix((np.ones(len(held)), (held, of_row[held])), (len(data.catalogue), len(known)))
        for regularisation in settings.regularisation:
            weights = of_item @ item_weights(gram, regularisation)
            for decay in settings.decay:
                ranker = HistoryProfile("linear", log, weights, of_item, decay=decay, length=data.window.length)
                best = max(best, (validation.measure(ranker), regularisation, decay), key=lambda found: found[0])
        say(
            f"linear model of {len(known):,} items: validation {validation.name} {best[0]:.4f} "
            f"(regularisation {best[1]:g}, decay {best[2]:g})"
        )
    table, sign, covariance = _factors(gram, best[1], linear_rank(settings, len(count) - 1))
    if not (np.isfinite(table).all() and np.isfinite(covariance).all() and table[:, :-1].any()):
        raise AssertionError("the linear model has weights that are not finite, or none at all")
    spread = np.zeros((len(count), table.shape[1]))
    spread[known] = table
    return LinearFit(spread, sign, covariance, best[1], best[2])


def item_weights(gram: np.ndarray, regularisation: float) -> np.ndarray:
    """(V, V) weights from item to item with a zero diagonal, from the items' co-occurrence (V, V)."""
    core, divisor = _core(gram, regularisation)
    return core / divisor


def _core(gram: np.ndarray, regularisation: float) -> tuple[np.ndarray, np.ndarray]:
    """The weights as a symmetric matrix (V, V) over a divisor of its columns (V,)."""
    inverse = np.linalg.inv(gram + regularisation * np.eye(len(gram)))
    divisor = np.diag(inverse).copy()
    core = -inverse
    np.fill_diagonal(core, 0.0)
    return core / divisor.mean(), divisor / divisor.mean()


def _factors(gram: np.ndarray, regularisation: float, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Table (V, K + 1), signs (K,) and covariance of the scores' factors (K, K), see `towers.linear`."""
    core, divisor = _core(gram, regularisation)
    value, vector = np.linalg.eigh((core + core.T) / 2)
    strongest = np.argsort(-np.abs(value), kind="stable")[:rank]
    factors = vector[:, strongest] * np.sqrt(np.abs(value[strongest])) / divisor[:, None]
    covariance = np.cov(factors, rowvar=False, bias=True).reshape(rank, rank)
    return np.c_[factors, divisor], np.sign(value[strongest]), covariance
