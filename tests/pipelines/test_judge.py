"""Ranks by counting against a full sort; slates against scores one by one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from pipelines import judge
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.data.histories import Behaviour, Requests, load_behaviour
from pipelines.judge import CatalogueTargets, Slates, unseen
from pipelines.metrics import slate_metrics
from pipelines.rankers import DotProduct, FixedOrder, Queries

Make = Callable[..., Dataset]


@dataclass(frozen=True)
class Whole(DotProduct):
    """A ranker of small whole numbers, so that ties are common and every order of summation is exact."""

    count: int
    sparse: bool = False
    name: str = "whole"

    @property
    def items(self) -> Any:
        table = np.random.default_rng(5).integers(-1, 2, (self.count, 4)).astype(float)
        return sp.csr_matrix(table) if self.sparse else table

    def embed(self, queries: Queries) -> Any:
        table = np.stack([queries.user, queries.history_end, queries.at, queries.user + queries.at], axis=1) % 3 - 1.0
        return sp.csr_matrix(table) if self.sparse else table


def everything(made: Any) -> CatalogueTargets:
    return CatalogueTargets.of(made.behaviour, made.catalogue, np.ones(len(made.behaviour.interactions), bool))


def history(behaviour: Behaviour, user: int, end: int) -> set[int]:
    log = behaviour.interactions
    return {int(item) - 1 for item in log.item[log.user_offsets[user] : end]}


def rank_by_sorting(scores: np.ndarray, catalogue: Catalogue, seen: set[int], at: int, target: int) -> int:
    places = [
        place
        for place in range(len(catalogue))
        if place == target or (place not in seen and catalogue.published_at[place] <= at < catalogue.removed_at[place])
    ]
    return sorted(places, key=lambda place: (-scores[place], catalogue.ids[place])).index(target) + 1


def test_ranks_are_places_in_a_full_sort(made: Any) -> None:
    targets, ranker = everything(made), Whole(len(made.catalogue))
    scores = ranker.embed(targets.queries) @ ranker.items.T
    queries = targets.queries
    expected = [
        rank_by_sorting(row, made.catalogue, history(made.behaviour, user, end), at, target)
        for row, user, end, at, target in zip(
            scores, queries.user, queries.history_end, queries.at, targets.target, strict=True
        )
    ]
    assert list(targets.ranks(ranker)) == expected
    assert len(set(expected)) > 10


def test_targets_seen_before_are_counted_and_left_out(made: Any) -> None:
    log, targets = made.behaviour.interactions, everything(made)
    seen = [
        item - 1 in history(made.behaviour, user, end)
        for item, user, end in zip(log.item, log.user, log.history_end, strict=True)
    ]
    assert targets.already_seen == sum(seen) > 0
    assert list(targets.target) == [item - 1 for item, before in zip(log.item, seen, strict=True) if not before]


def test_sparse_and_dense_rankers_agree(made: Any) -> None:
    dense, sparse = Whole(len(made.catalogue)), Whole(len(made.catalogue), sparse=True)
    np.testing.assert_array_equal(everything(made).ranks(dense), everything(made).ranks(sparse))
    slates = Slates.of(made.behaviour, np.ones(len(made.behaviour.requests), bool))
    np.testing.assert_array_equal(slates.scores(dense), slates.scores(sparse))


def test_ranks_do_not_depend_on_the_blocks(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = Whole(len(made.catalogue))
    whole = everything(made).ranks(ranker)
    monkeypatch.setattr(judge, "_SCORES_AT_ONCE", 7 * len(made.catalogue))
    np.testing.assert_array_equal(everything(made).ranks(ranker), whole)


def test_a_ranker_that_knows_the_target_is_always_first(made: Any) -> None:
    targets = everything(made)

    class Knowing(Whole):
        items = np.eye(len(made.catalogue))

        def embed(self, queries: Queries) -> np.ndarray:
            return np.eye(len(made.catalogue))[targets.target]

    assert set(targets.ranks(Knowing(0))) == {1}


def test_at_most_so_many_targets_are_drawn_by_seed(made: Any) -> None:
    chosen = np.ones(len(made.behaviour.interactions), bool)
    first, again, other = (
        CatalogueTargets.of(made.behaviour, made.catalogue, chosen, most=20, seed=seed) for seed in (1, 1, 2)
    )
    assert len(first.queries) == 20
    np.testing.assert_array_equal(first.target, again.target)
    assert list(first.queries.history_end) != list(other.queries.history_end)


def test_a_clock_of_row_numbers_does_not_make_every_item_unpublished(make_dataset: Make) -> None:
    items = [{"item_id": f"i{number}", "published_at": 1.7e9} for number in range(9)]
    events = [{"user_id": f"u{row % 3}", "item_id": f"i{row}", "kind": "click", "at": row + 1} for row in range(9)]
    dataset = make_dataset(events, items, clock="row order")
    catalogue = Catalogue.load(dataset)
    behaviour = load_behaviour(dataset, catalogue.ids)
    targets = CatalogueTargets.of(behaviour, catalogue, np.ones(9, bool))
    assert targets.ranks(FixedOrder("last first", np.arange(9.0))).max() == 9


@pytest.mark.parametrize("known_only", [False, True])
def test_slates_hold_what_was_shown(made: Any, known_only: bool) -> None:
    requests = made.behaviour.requests
    chosen = np.random.default_rng(2).random(len(requests)) < 0.5
    slates = Slates.of(made.behaviour, chosen, known_only=known_only)
    ranker = Whole(len(made.catalogue))
    expected = ranker.embed(slates.queries) @ ranker.items.T
    scores, metrics = slates.scores(ranker), slates.metrics(ranker)
    assert (requests.item == 0).any()
    for number, request in enumerate(np.flatnonzero(chosen)):
        rows = np.arange(requests.offsets[request], requests.offsets[request + 1])
        rows = rows[requests.item[rows] > 0] if known_only else rows
        flat = slice(slates.offsets[number], slates.offsets[number + 1])
        np.testing.assert_array_equal(slates.item[flat], requests.item[rows])
        np.testing.assert_array_equal(slates.clicked[flat], requests.clicked[rows])
        last = min((expected[number, item - 1] for item in requests.item[rows] if item), default=0.0)
        wanted = [expected[number, item - 1] if item else last for item in requests.item[rows]]
        assert list(scores[flat]) == wanted
        order = np.unique(requests.item_ids[rows].astype(str), return_inverse=True)[1]
        alone = slate_metrics(np.array([0, len(rows)]), np.array(wanted), requests.clicked[rows], order)
        for name, values in metrics.items():
            assert values[number] == pytest.approx(alone[name][0], nan_ok=True)
    assert len(slates.queries) == chosen.sum()


def test_no_slate_at_all(made: Any) -> None:
    slates = Slates.of(made.behaviour, np.zeros(len(made.behaviour.requests), bool))
    assert [len(values) for values in slates.metrics(Whole(len(made.catalogue))).values()] == [0] * 5


def test_what_is_not_unseen_is_exactly_the_history(made: Any) -> None:
    requests = made.behaviour.requests
    queries = judge.request_queries(made.behaviour, np.ones(len(requests), bool))
    found = unseen(made.behaviour, queries, len(made.catalogue))
    for row, user, end in zip(found, queries.user, queries.history_end, strict=True):
        assert set(np.flatnonzero(~row)) == history(made.behaviour, user, end)


@given(st.integers(0, 10_000), st.booleans())
def test_ties_are_broken_by_the_order_of_all_ids_shown(seed: int, known_only: bool) -> None:
    rng = np.random.default_rng(seed)
    names = {f"{rng.choice(['i', 'ä', '', '𝄞'])}{number}" for number in rng.integers(0, 30, 9)}
    known = np.array(sorted(names), object)
    ids = np.array([*known, *(f"{rng.choice(['i', 'z', ''])}{number}-" for number in rng.integers(0, 30, 5))], object)
    shown = rng.integers(0, len(ids), rng.integers(0, 25))
    sizes = np.diff(np.r_[0, np.sort(rng.integers(0, len(shown) + 1, 3)), len(shown)])
    nobody, flags = np.zeros(len(sizes), np.int64), np.zeros(len(shown), bool)
    requests = Requests(
        ids=np.array([str(place) for place in range(len(sizes))], object),
        user=nobody,
        at=nobody,
        device=np.full(len(sizes), "", object),
        history_end=nobody,
        offsets=np.r_[0, np.cumsum(sizes)],
        item=np.where(shown < len(known), shown + 1, 0),
        item_ids=ids[shown],
        **dict.fromkeys(("clicked", "read", "liked"), flags),
    )
    made: Any = SimpleNamespace(requests=requests)
    chosen = rng.random(len(sizes)) < 0.8
    found = Slates.of(made, chosen, known_only=known_only)
    flat = np.repeat(chosen, sizes) & ((requests.item > 0) | (not known_only))
    expected = np.unique(requests.item_ids[flat].astype(str), return_inverse=True)[1]
    np.testing.assert_array_equal(found.tie_break, expected)


def test_one_long_id_does_not_make_room_for_every_id_at_its_length(make_dataset: Make) -> None:
    items = [{"item_id": f"i{number}"} for number in range(2000)]
    shown = [*(item["item_id"] for item in items), "x" * 60_000]
    events = [
        {"user_id": "u", "item_id": item, "kind": "impression", "at": 1, "request_id": "r", "position": place}
        for place, item in enumerate(shown, start=1)
    ]
    dataset = make_dataset(events, items)
    behaviour = load_behaviour(dataset, Catalogue.load(dataset).ids)
    tracemalloc.start()
    slates = Slates.of(behaviour, np.ones(1, bool))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(slates.tie_break)) == len(shown)
    assert peak < 20e6  # at 60,000 characters each they would be 480 MB
