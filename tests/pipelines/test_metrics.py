"""Ranking metrics against scikit-learn and plain loops; the bootstrap by its properties."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipelines.metrics import SLATE_METRICS, bootstrap, rank_metrics, slate_metrics


@dataclass
class Rows:
    """The arguments of `slate_metrics`."""

    offsets: np.ndarray
    scores: np.ndarray
    clicked: np.ndarray
    tie_break: np.ndarray

    def metrics(self) -> dict[str, np.ndarray]:
        return slate_metrics(self.offsets, self.scores, self.clicked, self.tie_break)


ROW = st.tuples(st.integers(-3, 3), st.booleans())


@st.composite
def slates(draw: st.DrawFn) -> Rows:
    """Slates with many ties; some are empty, some have only clicks or none."""
    content = draw(st.lists(st.lists(ROW, max_size=14), max_size=6))
    flat = [row for slate in content for row in slate]
    return Rows(
        np.r_[0, np.cumsum([len(slate) for slate in content], dtype=int)],
        np.array([score for score, _ in flat], float),
        np.array([click for _, click in flat], bool),
        np.array(draw(st.permutations(range(len(flat)))), int),
    )


def by_hand(scores: np.ndarray, clicked: np.ndarray, tie_break: np.ndarray) -> dict[str, float]:
    if not clicked.any() or clicked.all():
        return dict.fromkeys(SLATE_METRICS, math.nan)
    rows = sorted(zip(-scores, tie_break, clicked, strict=True))
    hits = [bool(hit) for _, _, hit in rows]
    found = {
        "auc": roc_auc_score(clicked, scores),
        "mrr": sum(1 / rank for rank, hit in enumerate(hits, 1) if hit) / sum(hits),
        "precision@5": sum(hits[:5]) / 5,
    }
    for k in (5, 10):
        gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits[:k], 1) if hit)
        found[f"ndcg@{k}"] = gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, sum(hits)) + 1))
    return found


@given(slates())
@settings(max_examples=200, deadline=None)
def test_slate_metrics_are_those_of_a_plain_loop(rows: Rows) -> None:
    found = rows.metrics()
    assert set(found) == set(SLATE_METRICS)
    for number, (start, end) in enumerate(zip(rows.offsets, rows.offsets[1:], strict=False)):
        expected = by_hand(rows.scores[start:end], rows.clicked[start:end], rows.tie_break[start:end])
        for name, value in expected.items():
            assert found[name][number] == pytest.approx(value, nan_ok=True), name
    assert {len(values) for values in found.values()} == {len(rows.offsets) - 1}


@given(slates(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_in_a_slate_does_not_matter(rows: Rows, random: object) -> None:
    order = np.arange(len(rows.scores))
    for start, end in zip(rows.offsets, rows.offsets[1:], strict=False):
        random.shuffle(order[start:end])  # type: ignore[attr-defined]
    shuffled = Rows(rows.offsets, rows.scores[order], rows.clicked[order], rows.tie_break[order])
    for name, values in rows.metrics().items():
        np.testing.assert_allclose(shuffled.metrics()[name], values)


@given(slates())
def test_only_the_order_of_the_scores_matters(rows: Rows) -> None:
    other = Rows(rows.offsets, np.exp(rows.scores) * 5 - 100, rows.clicked, rows.tie_break)
    for name, values in rows.metrics().items():
        np.testing.assert_array_equal(other.metrics()[name], values)


def test_a_perfect_and_a_useless_ranking() -> None:
    clicked = np.array([True, True, False, False, False, False])
    perfect = slate_metrics(np.array([0, 6]), -np.arange(6.0), clicked, np.arange(6))
    assert {name: float(values[0]) for name, values in perfect.items()} == {
        "auc": 1,
        "mrr": 0.75,
        "ndcg@5": 1,
        "ndcg@10": 1,
        "precision@5": 0.4,
    }
    assert slate_metrics(np.array([0, 6]), np.zeros(6), clicked, np.arange(6))["auc"] == [0.5]


@given(st.lists(st.integers(1, 500), max_size=30))
def test_rank_metrics_are_those_of_a_plain_loop(ranks: list[int]) -> None:
    found = rank_metrics(np.array(ranks, int), cutoffs=(1, 10, 100))
    for k in (1, 10, 100):
        assert list(found[f"recall@{k}"]) == [float(rank <= k) for rank in ranks]
        assert list(found[f"ndcg@{k}"]) == pytest.approx([(rank <= k) / math.log2(rank + 1) for rank in ranks])


def test_bootstrap_is_the_same_for_the_same_seed_only() -> None:
    values = {"a": np.random.default_rng(0).random(50)}
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3)["a"].low != bootstrap(values, seed=4)["a"].low


@given(st.lists(st.integers(0, 10), min_size=1, max_size=40), st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_the_interval_holds_the_mean_and_stays_in_the_range_of_the_values(numbers: list[int], seed: int) -> None:
    found = bootstrap({"a": np.array(numbers, float)}, seed=seed, draws=200)["a"]
    assert min(numbers) <= found.low <= found.mean <= found.high <= max(numbers)
    assert (found.mean, found.count) == (pytest.approx(np.mean(numbers)), len(numbers))


def test_the_interval_covers_the_true_mean_19_times_in_20() -> None:
    rng = np.random.default_rng(1)
    intervals = [bootstrap({"a": rng.random(60)}, seed=seed, draws=300)["a"] for seed in range(400)]
    assert 0.91 <= np.mean([each.low <= 0.5 <= each.high for each in intervals]) <= 0.99


def test_the_difference_of_identical_columns_is_exactly_nothing() -> None:
    values = np.random.default_rng(0).random(40)
    found = bootstrap({"a": values, "difference": values - values.copy()}, seed=1)["difference"]
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_columns_on_the_same_rows_share_their_resamples() -> None:
    values = np.random.default_rng(0).random(40)
    found = bootstrap({"a": values, "b": values + 1}, seed=1)
    assert found["b"].low == pytest.approx(found["a"].low + 1)
    assert found["b"].high == pytest.approx(found["a"].high + 1)


def test_rows_without_a_value_do_not_count_for_their_metric_alone() -> None:
    values = {"a": np.array([1.0, np.nan, 3.0]), "b": np.array([1.0, 2.0, 3.0])}
    found = bootstrap(values, seed=1)
    assert list(found) == ["a", "b"]
    assert [(each.mean, each.count) for each in found.values()] == [(2.0, 2), (2.0, 3)]


@pytest.mark.parametrize("values", [np.array([np.nan, np.nan]), np.zeros(0)])
def test_nothing_to_measure_is_an_error(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no example to measure a, b on"):
        bootstrap({"a": values, "b": values}, seed=1)
