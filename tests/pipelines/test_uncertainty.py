from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pipelines.prepare import Prepared, prepare
from pipelines.rankers import DotProduct, Queries
from pipelines.uncertainty import Doubt, Member, distinct


@dataclass(frozen=True)
class Table(DotProduct):
    """Scores (U, N) as they are given."""

    scores: np.ndarray

    @property
    def items(self) -> np.ndarray:
        return np.eye(self.scores.shape[1])

    def embed(self, queries: Queries) -> Any:
        return self.scores[queries.user]


@pytest.fixture(scope="module")
def data(dataset_folder: Any, small_recipe: dict[str, Any]) -> Prepared:
    from pipelines.data.dataset import Dataset
    from pipelines.recipe import Recipe

    return prepare(Dataset.open(dataset_folder), Recipe.model_validate(small_recipe))


def scores(data: Prepared, seed: int = 1) -> np.ndarray:
    shape = len(data.behaviour.interactions.user_ids), len(data.catalogue)
    return np.random.default_rng(seed).normal(size=shape)


def doubt(data: Prepared, by: Any, *tables: np.ndarray, feed: int = 10) -> Doubt:
    return Doubt(data, [Member(Table(each)) for each in tables], by, np.ones(len(data.catalogue), bool), feed)


def everyone(data: Prepared) -> np.ndarray:
    return np.arange(len(data.behaviour.interactions.user_ids))


def unread(data: Prepared) -> np.ndarray:
    log = data.behaviour.interactions
    found = np.ones((len(log.user_ids), len(data.catalogue)), bool)
    found[log.user, log.item - 1] = False
    return found


@pytest.mark.parametrize("members", [1, 2, 3, 7])
def test_members_that_agree_disagree_by_nothing(data: Prepared, members: int) -> None:
    same = doubt(data, "committee", *[scores(data) * 3] * members)
    assert (same.of_items(everyone(data)) == 0).all()
    assert (same.of_users(everyone(data)) == 0).all()


def test_disagreement_is_that_of_mcallum_and_nigam(data: Prepared) -> None:
    one, two = scores(data, 1), scores(data, 2)
    found = doubt(data, "committee", one, two).of_items(everyone(data))
    p, q = (1 / (1 + np.exp(-each)) for each in (one, two))
    mean = (p + q) / 2

    def divergence(p: np.ndarray) -> np.ndarray:
        return p * np.log2(p / mean) + (1 - p) * np.log2((1 - p) / (1 - mean))

    by_hand = np.where(unread(data), (divergence(p) + divergence(q)) / 2, np.nan)
    assert np.allclose(found, np.nanmean(by_hand, axis=0))


def test_entropy_is_highest_at_a_half_and_never_below_zero(data: Prepared) -> None:
    table = np.tile(np.linspace(-40, 40, len(data.catalogue)), (len(everyone(data)), 1))
    found = doubt(data, "entropy", table).of_items(everyone(data))
    assert (found >= 0).all()
    assert found.max() <= 1
    assert abs(int(np.argmax(found)) - (len(found) - 1) / 2) <= 0.5
    assert np.allclose(found, found[::-1])


def test_margin_is_the_distance_from_the_end_of_the_feed(data: Prepared) -> None:
    table = np.tile(-np.arange(len(data.catalogue), dtype=float), (len(everyone(data)), 1))
    new = unread(data)
    for user in (0, 1):
        places = np.flatnonzero(new[user])
        found = doubt(data, "margin", table, feed=5).of_items(np.array([user]))
        end = (places[4] + places[5]) / 2
        assert np.allclose(found[new[user]], -np.abs(places - end))
        assert np.isnan(found[~new[user]]).all()
        gap = doubt(data, "margin", table, feed=5).of_users(np.array([user]))
        assert gap == pytest.approx(places[4] - places[5])


def test_a_feed_that_takes_all_has_no_margin(data: Prepared) -> None:
    found = doubt(data, "margin", scores(data), feed=1000)
    assert np.isnan(found.of_users(everyone(data))).all()
    assert np.isfinite(found.of_items(everyone(data))).all()


def test_what_is_not_allowed_counts_for_nobody(data: Prepared) -> None:
    allowed = np.arange(len(data.catalogue)) % 2 == 0
    for by in ("entropy", "margin", "committee"):
        found = Doubt(data, [Member(Table(scores(data, each))) for each in (1, 2)], by, allowed)  # type: ignore[arg-type]
        assert np.array_equal(np.isfinite(found.of_items(everyone(data))), allowed)
        nothing = Doubt(data, found.members, found.by, allowed & False)
        assert np.isnan(nothing.of_users(everyone(data))).all()


def test_a_list_without_look_alikes() -> None:
    vectors = np.array([[1.0, 0.0], [2.0, 0.02], [0.0, 3.0], [0.0, 0.0], [1.0, 1.0]])
    order = np.array([1, 0, 4, 3, 2])
    assert distinct(order, vectors, 3, None).tolist() == [1, 0, 4]
    assert distinct(order, vectors, 5, 0.9).tolist() == [1, 4, 3, 2]
    assert distinct(order, vectors, 2, 0.9).tolist() == [1, 4]
    assert distinct(order, vectors, 5, 0.5).tolist() == [1, 3, 2]
