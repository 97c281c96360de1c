"""Matrix factorisation peers: ALS and BPR of implicit, BPR and BiVAE of cornac, and MiniLM mapped to ALS factors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.quality.protocol import Fitted, Training, View
from pipelines.data.histories import Interactions
from pipelines.encode import text_vectors
from pipelines.rankers import DotProduct, Queries, Ranker
from pipelines.recipe import Text

_SEED = 42


@dataclass(frozen=True)
class Factors(DotProduct):
    """A vector for each user that was trained on and one for each item; users it does not know get their mean."""

    name: str
    users: np.ndarray
    vectors: np.ndarray

    @property
    def items(self) -> np.ndarray:
        return self.vectors

    def embed(self, queries: Queries) -> np.ndarray:
        return self.users[queries.user]


@dataclass(frozen=True)
class FoldedIn(DotProduct):
    """ALS factors of items; a user's come from the history of the query by one least-squares step (Hu et al. 2008)."""

    name: str
    interactions: Interactions
    model: Any
    vectors: np.ndarray

    @property
    def items(self) -> np.ndarray:
        return self.vectors

    def embed(self, queries: Queries) -> np.ndarray:
        log = self.interactions
        row, place = log.spans(log.user_offsets[queries.user], queries.history_end)
        shape = (len(queries), self.model.item_factors.shape[0])
        read = sp.csr_matrix((np.ones(len(row), np.float32), (row, log.item[place] - 1)), shape=shape)
        read.data[:] = 1.0
        return np.asarray(self.model.recalculate_user(np.arange(len(queries)), read))


def fit_als(training: Training, *, factors: int, regularisation: float, alpha: float, iterations: int = 20) -> Fitted:
    """Alternating least squares on implicit feedback (Hu, Koren and Volinsky 2008), by `implicit`."""
    model = _als(training, factors=factors, regularisation=regularisation, alpha=alpha, iterations=iterations)
    return Fitted(lambda view: FoldedIn("ALS", view.behaviour.interactions, model, _same_items(training, view, model)))


@cache
def _als(training: Training, *, factors: int, regularisation: float, alpha: float, iterations: int) -> Any:
    from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # implicit runs its own threads
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularisation,
            alpha=alpha,
            iterations=iterations,
            random_state=_SEED,
            num_threads=os.cpu_count() or 1,
        )
        model.fit(training.matrix.astype(np.float32), show_progress=False)
    return model


def _same_items(training: Training, view: View, model: Any) -> np.ndarray:
    if view.catalogue is not training.view.catalogue:
        raise ValueError("factors are of the items that were trained on")
    return np.asarray(model.item_factors)


def fit_implicit_bpr(
    training: Training, *, factors: int, learning_rate: float, regularisation: float, iterations: int
) -> Fitted:
    """Bayesian personalised ranking (Rendle et al. 2009), by `implicit`; one thread, since its updates race."""
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors=factors,
        learning_rate=learning_rate,
        regularization=regularisation,
        iterations=iterations,
        random_state=_SEED,
        num_threads=1,
    )
    model.fit(training.matrix.astype(np.float32), show_progress=False)
    return Fitted(
        lambda view: Factors("BPR (implicit)", np.asarray(model.user_factors), _same_items(training, view, model))
    )


def fit_cornac_bpr(
    training: Training, *, factors: int, learning_rate: float, regularisation: float, iterations: int
) -> Fitted:
    """Bayesian personalised ranking (Rendle et al. 2009), by `cornac`."""
    from cornac.models import BPR

    return _cornac(
        training,
        "BPR (cornac)",
        BPR(
            k=factors,
            learning_rate=learning_rate,
            lambda_reg=regularisation,
            max_iter=iterations,
            num_threads=1,
            seed=_SEED,
        ),
    )


def fit_bivae(training: Training, *, factors: int, encoder: int, epochs: int, likelihood: str = "pois") -> Fitted:
    """Bilateral variational autoencoder (Truong, Salah and Lauw 2021), by `cornac`. Needs torch."""
    import torch
    from cornac.models import BiVAECF

    torch.set_num_threads(os.cpu_count() or 1)
    return _cornac(
        training,
        "BiVAE (cornac)",
        BiVAECF(
            k=factors,
            encoder_structure=[encoder],
            act_fn="tanh",
            likelihood=likelihood,
            n_epochs=epochs,
            batch_size=128,
            learning_rate=0.001,
            use_gpu=False,
            seed=_SEED,
        ),
    )


def _cornac(training: Training, name: str, model: Any) -> Fitted:
    from cornac.data import Dataset

    matrix = training.matrix.tocoo()
    order = np.lexsort((matrix.col, matrix.row))
    triples = [(int(matrix.row[place]), int(matrix.col[place]), 1.0) for place in order]
    model.fit(Dataset.from_uir(triples, seed=_SEED))
    found_users, found_items = np.asarray(model.get_user_vectors()), np.asarray(model.get_item_vectors())
    users = _placed(found_users, model.train_set.uid_map, matrix.shape[0])
    items = _placed(found_items, model.train_set.iid_map, matrix.shape[1])
    trained = np.zeros(matrix.shape[1], bool)
    trained[list(model.train_set.iid_map)] = True
    # An item that nobody wanted has no vector; it comes last for everybody.
    users = np.column_stack([users, np.ones(len(users))])
    items = np.column_stack([items, np.where(trained, 0.0, -1e6)])
    return Fitted(lambda view: Factors(name, users, items))


def _placed(vectors: np.ndarray, place: dict[int, int], rows: int) -> np.ndarray:
    """Cornac's rows in our order; the mean for what it does not know."""
    placed = np.tile(vectors.mean(axis=0), (rows, 1)).astype(np.float64)
    placed[list(place)] = vectors[list(place.values())]
    return placed


def fit_minilm_to_als(
    training: Training, *, factors: int, regularisation: float, alpha: float, ridge: float, weighted: bool = True
) -> Fitted:
    """ALS factors of new items from their text: ridge regression of the known items' factors on MiniLM vectors.

    All items get the predicted factors, since those of known items are on another scale.

    Args:
        ridge: Its strength, relative to unit text vectors.
        weighted: Items count by the logarithm of how often they were wanted.
    """
    model = _als(training, factors=factors, regularisation=regularisation, alpha=alpha, iterations=20)
    counts = np.asarray(training.matrix.sum(axis=0)).ravel()
    text = text_vectors(training.view.catalogue.text, Text()).astype(np.float64)
    mapped = ridge_map(
        text, np.asarray(model.item_factors, np.float64), np.log1p(counts) if weighted else counts > 0, ridge
    )

    def over(view: View) -> Ranker:
        vectors = text_vectors(view.catalogue.text, Text()).astype(np.float64)
        return FoldedIn("MiniLM to ALS", view.behaviour.interactions, model, mapped(vectors))

    return Fitted(over)


def ridge_map(inputs: np.ndarray, outputs: np.ndarray, weight: np.ndarray, ridge: float) -> Any:
    """The weighted ridge regression of (N, K) outputs on (N, T) inputs, with an intercept, as a function."""
    from sklearn.linear_model import Ridge

    known = weight > 0
    model = Ridge(alpha=ridge).fit(inputs[known], outputs[known], sample_weight=weight[known].astype(float))
    return model.predict
