from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from benchmarks.quality.held_out import held_out, set_metrics
from benchmarks.quality.tasks.parts import random_share
from pipelines.data.histories import Behaviour, Interactions, Requests
from pipelines.rankers import FixedOrder


def test_set_metrics_equal_a_computation_by_hand() -> None:
    hit = np.zeros((2, 12), bool)
    hit[0, [0, 3, 11]] = True  # ranks 1, 4 and 12 of three wanted
    found = set_metrics(hit, np.array([3, 20]))
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert found["ndcg@10"] == pytest.approx([(1 + 1 / np.log2(5)) / ideal, 0.0])
    assert found["map@10"] == pytest.approx([(1 / 1 + 2 / 4) / 3, 0.0])
    assert found["precision@10"] == pytest.approx([0.2, 0.0])
    assert found["recall@10"] == pytest.approx([2 / 3, 0.0])
    assert found["hr@10"].tolist() == [1.0, 0.0]
    assert set_metrics(np.eye(1, 12, 11).astype(bool), np.array([1]))["hr@100"].tolist() == [1.0]


def test_ndcg_is_1_for_a_perfect_list_even_where_more_was_wanted_than_fits() -> None:
    assert set_metrics(np.ones((1, 10), bool), np.array([25]))["ndcg@10"] == pytest.approx([1.0])


def _behaviour() -> Behaviour:
    """Users a and b have read items 0 and 1; c has read nothing."""
    nothing = np.zeros(0, np.int64)
    log = Interactions(
        user_ids=np.array(["a", "b", "c"], object),
        user_language=np.array(["", "", ""], object),
        user_offsets=np.array([0, 1, 2, 2]),
        user=np.array([0, 1]),
        item=np.array([1, 2], np.int32),
        at=np.array([5, 6]),
        dwell=np.zeros(2, np.float32),
        scroll=np.zeros(2, np.float32),
        device=np.array(["", ""], object),
        request=np.full(2, -1),
        history_end=np.arange(2),
    )
    none = {field.name: nothing for field in fields(Requests)} | {"offsets": np.zeros(1, int)}
    return Behaviour(log, Requests(**none), 0)


def test_what_was_read_and_what_is_not_among_the_candidates_is_never_ranked() -> None:
    among = np.array([True, True, True, False])
    judge = held_out(_behaviour(), np.array([1, 0, 0, 2]), np.array([2, 2, 1, 2]), among)
    assert judge.queries.user.tolist() == [0, 1]  # c has no history
    # Item 3 is no candidate and item 0 is read by a: a's list is 1, 2.
    found = judge.metrics(FixedOrder("x", np.array([9.0, 5.0, 1.0, 99.0])))
    assert found["ndcg@10"][0] == pytest.approx(1.0)
    assert found["ndcg@10"][1] == pytest.approx(1 / np.log2(3))  # b: 0, then 2


def test_equal_scores_keep_the_order_of_the_catalogue() -> None:
    judge = held_out(_behaviour(), np.array([0]), np.array([3]), np.ones(4, bool))
    assert judge.metrics(FixedOrder("x", np.zeros(4)))["ndcg@10"] == pytest.approx([1 / np.log2(4)])


def test_a_random_share_is_taken_of_every_user_and_depends_on_the_seed_alone() -> None:
    user = np.repeat([0, 1, 2], [8, 4, 1])
    taken = random_share(user, 0.25, seed=1)
    assert np.bincount(user[taken], minlength=3).tolist() == [2, 1, 0]
    assert np.array_equal(taken, random_share(user, 0.25, seed=1))
    assert not np.array_equal(taken, random_share(user, 0.25, seed=2))
