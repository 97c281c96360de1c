from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import Stopped
from pipelines.quantisation.compare import FLOAT_TOLERANCE, Lists, agreement, compared, content_kept

INPUTS = [{"x": np.full((1, 3), float(number), np.float32)} for number in range(1, 4)]


def right(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"embedding": inputs["x"] * 2}


def off(factor: float) -> Any:
    return lambda inputs: {"embedding": inputs["x"] * 2 * np.float32(factor)}


def test_equal_parts_agree() -> None:
    found = agreement("user", "float32", right, right, INPUTS)
    assert found == pytest.approx({"cosine": 1.0, "smallest_cosine": 1.0, "largest_difference": 0.0})


def test_a_conversion_that_gives_no_numbers_is_refused() -> None:
    with pytest.raises(Stopped, match="values of embedding that are not finite"):
        agreement("user", "int8", off(float("nan")), right, INPUTS)


def test_a_conversion_of_another_shape_is_refused() -> None:
    with pytest.raises(Stopped, match=r"no embedding of shape \(1, 3\)"):
        agreement("user", "int8", lambda inputs: {"embedding": inputs["x"][:, :2]}, right, INPUTS)


def test_only_float32_must_be_exact() -> None:
    wrong = off(1 + 3 * FLOAT_TOLERANCE)
    with pytest.raises(Stopped, match="the user converted in float32 differs from the original by"):
        agreement("user", "float32", wrong, right, INPUTS)
    assert agreement("user", "float16", wrong, right, INPUTS)["cosine"] > 0.999


lists = st.lists(st.permutations(range(1, 13)), min_size=1, max_size=5)


@given(lists, st.integers(0, 12))
def test_the_same_recommendations_are_all_kept(rows: list[list[int]], empty: int) -> None:
    best = np.array(rows)
    best[:, 12 - empty :] = 0
    same = Lists(best)
    if empty == 12:
        assert np.isnan(same.kept(same, 10)).all()
        return
    target = np.ones(len(best), int)
    found = compared(same, same, target)
    assert found["recall@10"].mean == found["recall@50"].mean == 1.0
    assert found["ndcg@10_change"].mean == 0.0


@given(lists)
def test_what_is_kept_is_counted_by_sets(rows: list[list[int]]) -> None:
    one, other = Lists(np.array(rows)), Lists(np.array(rows)[:, ::-1])
    expected = [len({*row[:10]} & {*row[::-1][:10]}) / 10 for row in rows]
    np.testing.assert_allclose(one.kept(other, 10), expected)


def test_ndcg_looks_at_ten_places() -> None:
    best = np.arange(1, 51)[None]
    assert Lists(best).ndcg(np.array([1])) == [1.0]
    assert Lists(best).ndcg(np.array([3])) == [0.5]
    assert Lists(best).ndcg(np.array([11])) == [0.0]


def test_items_embedded_alike_are_all_kept() -> None:
    rng = np.random.default_rng(3)
    users, items = rng.normal(size=(20, 6)), rng.normal(size=(40, 6))
    assert content_kept(users, items, items) == 1.0
    assert content_kept(users, items, -items) < 0.1
