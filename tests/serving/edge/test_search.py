from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.edge.float_search import FloatSearch
from serving.edge.search import ItemSearch


def plain(embedding: np.ndarray, scale: np.ndarray, user: np.ndarray) -> np.ndarray:
    return (embedding.astype(np.float64) @ user.astype(np.float64) * scale).astype(np.float32)


def best(scores: np.ndarray, rows: np.ndarray, count: int) -> list[int]:
    return rows[np.lexsort((rows, -scores))][:count].tolist()


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 700),
    width=st.integers(1, 70),
    wanted=st.integers(1, 50),
    level=st.sampled_from([1, 3, 127]),
    spread=st.sampled_from([0.0, 1e-20, 1.0, 1e20]),
)
def test_the_best_are_those_of_a_search_in_float64(
    seed: int, count: int, width: int, wanted: int, level: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    embedding = rng.integers(-level, level + 1, (count, width), dtype=np.int8)
    scale = rng.random(count).astype(np.float32) if seed % 2 else np.full(count, 0.5, np.float32)
    user = (rng.normal(size=width) * spread).astype(np.float32)
    on_offer = rng.random(count) < 0.8
    search = ItemSearch(embedding, scale)
    rows, scores = search.best(user, on_offer, wanted)
    expected = plain(embedding, scale, user)
    np.testing.assert_allclose(scores, expected[rows], rtol=1e-6, atol=1e-30)
    assert on_offer[rows].all()
    allowed = np.flatnonzero(on_offer)
    assert best(scores, rows, wanted) == best(search.scores(user, allowed), allowed, wanted)


def test_the_lowest_int8_has_a_length_too() -> None:
    embedding = np.full((3, 40), -128, np.int8)
    search = ItemSearch(embedding, np.ones(3, np.float32))
    rows, scores = search.best(np.linspace(-1, 1, 40, dtype=np.float32), np.ones(3, bool), 2)
    np.testing.assert_allclose(scores, plain(embedding, np.ones(3), np.linspace(-1, 1, 40, dtype=np.float32))[rows])


def test_embeddings_are_seen_where_they_lie_in_the_model() -> None:
    embedding = np.arange(60, dtype=np.int8).reshape(12, 5)
    search = ItemSearch(embedding, np.full(12, 0.5, np.float32))
    np.testing.assert_array_equal(search.embedding, embedding)
    assert not search.embedding.flags.owndata
    np.testing.assert_array_equal(search.vectors(np.array([3, 0])), embedding[[3, 0]] * 0.5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), skew=st.sampled_from([-5.0, 0.0, 5.0]), peak=st.sampled_from([1.0, 40.0]))
def test_the_rough_score_is_as_near_as_is_claimed(seed: int, skew: float, peak: float) -> None:
    rng = np.random.default_rng(seed)
    embedding = rng.integers(-127, 128, (200, 48), dtype=np.int8)
    scale = rng.random(200).astype(np.float32)
    user = (rng.normal(size=48) + skew).astype(np.float32)
    user[rng.integers(48)] *= peak
    rough, doubt = ItemSearch(embedding, scale)._rough(user)
    assert (np.abs(rough - plain(embedding, scale, user)) <= doubt).all()


def test_where_nothing_is_on_offer_nothing_is_found() -> None:
    search = ItemSearch(np.ones((4, 3), np.int8), np.ones(4, np.float32))
    rows, scores = search.best(np.ones(3, np.float32), np.zeros(4, bool), 2)
    assert len(rows) == len(scores) == 0


@pytest.mark.parametrize("count", [511, 512, 513])
def test_blocks_have_no_seams(count: int) -> None:
    embedding = np.random.default_rng(1).integers(-127, 128, (count, 8), dtype=np.int8)
    user = np.ones(8, np.float32)
    search = ItemSearch(embedding, np.ones(count, np.float32))
    np.testing.assert_array_equal(search.scores(user, np.arange(count)), plain(embedding, np.ones(count), user))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), count=st.integers(1, 700), wanted=st.integers(1, 50), level=st.sampled_from([1, 99])
)
def test_the_best_in_float_are_those_of_a_search_in_float64(seed: int, count: int, wanted: int, level: int) -> None:
    rng = np.random.default_rng(seed)
    embedding = rng.integers(-level, level + 1, (count, 9)).astype(np.float32)
    user, on_offer = rng.normal(size=9).astype(np.float32), rng.random(count) < 0.8
    search = FloatSearch(embedding)
    rows, scores = search.best(user, on_offer, wanted)
    allowed = np.flatnonzero(on_offer)
    expected = plain(embedding, np.ones(count), user)[allowed]
    assert best(scores, rows, wanted) == best(expected, allowed, wanted)
    np.testing.assert_array_equal(search.vectors(rows), embedding[rows])
