"""The linear model as towers against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.linear import _factors, item_weights
from towers.linear import LinearHistory, LinearItems
from towers.runtime import tf

ITEMS, USERS = 12, 60


def gram() -> np.ndarray:
    read = np.random.default_rng(1).random((USERS, ITEMS)) < np.linspace(0.1, 0.6, ITEMS)
    return (read.T.astype(float) @ read).astype(float)


def towers(rank: int, decay: float = 1.0) -> tuple[LinearItems, LinearHistory]:
    table, sign, covariance = _factors(gram(), 20.0, rank)
    items, history = LinearItems(ITEMS, rank), LinearHistory(rank)
    items.build(None)
    history.build(None)
    items.table.assign(np.r_[np.zeros((1, rank + 1)), table])
    for weight, value in ((history.sign, sign), (history.covariance, covariance), (history.decay, decay)):
        weight.assign(value)
    return items, history


def scores(items: LinearItems, history: LinearHistory, read: np.ndarray) -> Any:
    given = items({"item": tf.constant(read)})
    user = history({"history": given, "present": tf.constant(read > 0)})
    return (user @ tf.transpose(items({"item": tf.range(1, ITEMS + 1)}))).numpy()


def test_item_weights_are_the_closed_form_with_a_zero_diagonal() -> None:
    weights = item_weights(gram(), 20.0)
    np.testing.assert_allclose(np.diag(weights), 0)
    # Each column is the ridge regression of an item on the others (Steck 2019).
    others = np.arange(ITEMS) != 3
    found = np.linalg.solve(gram()[np.ix_(others, others)] + 20 * np.eye(ITEMS - 1), gram()[others, 3])
    np.testing.assert_allclose(weights[others, 3], found, atol=1e-10)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_towers_of_full_rank_score_as_the_weights_do_but_for_each_user_s_scale(decay: float) -> None:
    read = np.array([[3, 7, 0, 0], [1, 2, 5, 9], [4, 0, 0, 0]])
    event = [decay ** np.arange(events)[::-1] for events in (2, 4, 1)]
    weights = item_weights(gram(), 20.0)
    found = scores(*towers(ITEMS, decay), read)
    for row, items in enumerate(([3, 7], [1, 2, 5, 9], [4])):
        expected = event[row] @ weights[np.array(items) - 1]
        np.testing.assert_allclose(found[row], expected / expected.std(), rtol=1e-3, atol=1e-3)


def test_nobody_and_the_unknown_item_are_zero() -> None:
    items, history = towers(4)
    assert not scores(items, history, np.zeros((2, 3), int)).any()
    assert not items({"item": tf.constant([0])}).numpy().any()


def test_fewer_eigenvectors_come_close() -> None:
    read = np.array([[3, 7, 10, 2]])
    whole = scores(*towers(ITEMS), read)[0]
    few = scores(*towers(9), read)[0]
    assert np.corrcoef(whole, few)[0, 1] > 0.9
