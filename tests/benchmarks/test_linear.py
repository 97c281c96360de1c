from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks.quality.peers.linear import Blend, ItemWeights, ease, item_similarity
from pipelines.data.histories import Interactions
from pipelines.rankers import FixedOrder, Queries


def _matrix() -> sp.csr_matrix:
    return sp.csr_matrix((np.random.default_rng(3).random((30, 7)) < 0.4).astype(float))


def _log() -> Interactions:
    """User 0 read items 0, 2; user 1 read item 1."""
    item = np.array([1, 3, 2], np.int32)
    return Interactions(
        user_ids=np.array(["a", "b"], object),
        user_language=np.array(["", ""], object),
        user_offsets=np.array([0, 2, 3]),
        user=np.array([0, 0, 1]),
        item=item,
        at=np.array([1, 2, 3]),
        dwell=np.zeros(3, np.float32),
        scroll=np.zeros(3, np.float32),
        device=np.array(["", "", ""], object),
        request=np.full(3, -1),
        history_end=np.arange(3),
    )


def test_ease_is_the_closed_form_and_has_a_zero_diagonal() -> None:
    matrix, strength = _matrix(), 5.0
    weights = ease(matrix, strength)
    assert np.array_equal(np.diag(weights), np.zeros(7))
    # Column j alone: ridge regression of item j on all other items.
    dense = matrix.toarray()
    for target in range(7):
        others = np.delete(np.arange(7), target)
        gram = dense[:, others].T @ dense[:, others] + strength * np.eye(6)
        assert weights[others, target] == pytest.approx(np.linalg.solve(gram, dense[:, others].T @ dense[:, target]))


def test_item_weights_sum_over_the_history_and_recent_events_count_more() -> None:
    weights = np.arange(9.0).reshape(3, 3)
    queries = Queries(np.array([0, 1]), np.array([2, 3]), np.array([9, 9]))
    scores = ItemWeights("x", _log(), weights, decay=0.5).catalogue(queries, np.ones((2, 3), bool))
    assert scores == pytest.approx(np.array([0.5 * weights[0] + weights[2], weights[1]]))
    pairs = ItemWeights("x", _log(), weights, decay=0.5).pairs(queries, np.array([1, 0]), np.array([2, 0]))
    assert pairs == pytest.approx(np.array([scores[1, 2], scores[0, 0]]))


def test_a_sparse_and_a_dense_item_matrix_score_alike() -> None:
    weights = np.array([[0.0, 1, 2], [3, 0, 0], [0, 5, 0]])
    queries = Queries(np.array([0]), np.array([2]), np.array([9]))
    allowed = np.array([[True, False, True]])
    dense = ItemWeights("x", _log(), weights).catalogue(queries, allowed)
    sparse = ItemWeights("x", _log(), sp.csr_matrix(weights)).catalogue(queries, allowed)
    assert np.array_equal(dense, sparse)
    assert dense[0, 1] == -np.inf


def test_a_blend_standardises_its_parts_over_what_is_allowed() -> None:
    parts = [FixedOrder("a", np.array([0.0, 10, 99])), FixedOrder("b", np.array([5.0, 5, 7]))]
    allowed = np.array([[True, True, False]])
    scores = Blend("ab", parts, [0.7, 0.3], 3).catalogue(Queries(*(np.zeros(1, int),) * 3), allowed)
    assert scores[0, :2] == pytest.approx([-0.7, 0.7])  # the second part is constant there
    assert scores[0, 2] == -np.inf


def test_item_similarity_is_the_cosine_of_two_items_users() -> None:
    matrix = _matrix()
    dense = matrix.toarray()
    norm = np.linalg.norm(dense, axis=0)
    cosine = dense.T @ dense / np.outer(norm, norm)
    np.fill_diagonal(cosine, 0.0)
    assert item_similarity(matrix, neighbours=7).toarray() == pytest.approx(cosine)
    kept = item_similarity(matrix, neighbours=2).toarray()
    for row, found in zip(kept, cosine, strict=True):
        assert found[row == 0].max() <= row[row > 0].min()
        assert (row > 0).sum() >= 2
