"""Properties of the parts, over any log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.histories import Behaviour, Interactions, Requests
from pipelines.data.splits import Part, everything, split, split_at_random
from pipelines.recipe import Split


def behaviour(events: list[tuple[int, int]], request: list[int] | None = None) -> Behaviour:
    """Positives as (user, at), in order; `request` is the place of each one's slate, whose moment is its first."""
    users = max((user for user, _ in events), default=-1) + 1
    user = np.array([user for user, _ in events], int)
    at = np.array([at for _, at in events], int)
    places = np.full(len(events), -1) if request is None else np.array(request, int)
    slates = places.max(initial=-1) + 1
    first = np.array([np.flatnonzero(places == slate)[0] for slate in range(slates)], int)
    offsets = np.searchsorted(user, np.arange(users + 1))
    nothing = np.zeros(len(events), int)
    names = np.array([f"u{number}" for number in range(users)], dtype=object)
    return Behaviour(
        Interactions(
            user_ids=names,
            user_language=names,
            user_offsets=offsets,
            user=user,
            item=nothing + 1,
            at=at,
            dwell=nothing,
            scroll=nothing,
            device=nothing.astype(str),
            request=places,
            history_end=np.arange(len(events)),
        ),
        Requests(
            ids=first.astype(object),
            user=user[first],
            at=at[first],
            device=first.astype(str),
            history_end=first,
            offsets=np.arange(slates + 1),
            item=np.ones(slates, int),
            item_ids=first.astype(object),
            clicked=np.ones(slates, bool),
            read=np.zeros(slates, bool),
            liked=np.zeros(slates, bool),
        ),
        0,
    )


LOGS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), max_size=40).map(sorted).map(behaviour)
SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9])


@given(LOGS, st.tuples(SHARES, SHARES).filter(lambda shares: sum(shares) < 1))
@settings(deadline=None)
def test_by_time_no_part_reaches_into_a_later_one(log: Behaviour, shares: tuple[float, float]) -> None:
    validation, test = shares
    parts = split(log, Split(validation=validation, test=test), on_requests=False).interactions
    at = log.interactions.at
    for earlier, later in ((Part.TRAIN, Part.VALIDATION), (Part.TRAIN, Part.TEST), (Part.VALIDATION, Part.TEST)):
        assert at[parts == earlier].max(initial=-1) < at[parts == later].min(initial=99)
    if not validation:
        assert not (parts == Part.VALIDATION).any()
    if not test:
        assert not (parts == Part.TEST).any()


@pytest.mark.parametrize("shares", [(0.1, 0.2), (0.0, 0.3), (0.25, 0.0), (0.0, 0.0), (0.3, 0.3)])
@pytest.mark.parametrize("on_requests", [False, True])
def test_by_time_the_shares_are_about_right(shares: tuple[float, float], on_requests: bool) -> None:
    at = np.sort(np.random.default_rng(0).integers(0, 10**9, 1000))
    log = behaviour([(0, moment) for moment in at], list(range(1000)))
    parts = split(log, Split(validation=shares[0], test=shares[1]), on_requests=on_requests)
    np.testing.assert_array_equal(parts.interactions, parts.requests)
    found = np.bincount(parts.interactions, minlength=3) / 1000
    assert found[1:] == pytest.approx(shares, abs=0.002)


def test_by_time_the_requests_decide_where_there_are_any(made: Any) -> None:
    parts = split(made.behaviour, Split(validation=0.1, test=0.2), on_requests=True)
    assert np.mean(parts.requests == Part.TEST) == pytest.approx(0.2, abs=0.05)
    assert np.mean(parts.requests == Part.VALIDATION) == pytest.approx(0.1, abs=0.05)
    first_tested = made.behaviour.requests.at[parts.requests == Part.TEST].min()
    assert made.behaviour.interactions.at[parts.interactions == Part.TRAIN].max() < first_tested


@given(LOGS)
@settings(deadline=None)
def test_by_last_each_user_keeps_back_the_last_and_the_one_before(log: Behaviour) -> None:
    parts = split(log, Split(by="last"), on_requests=False).interactions
    for user in range(len(log.interactions.user_ids)):
        own = list(parts[log.interactions.user == user])
        if len(own) >= 3:
            assert own == [Part.TRAIN] * (len(own) - 2) + [Part.VALIDATION, Part.TEST]
        else:
            assert own == [Part.TRAIN] * len(own)


def test_by_last_no_click_of_a_tested_slate_is_trained_on() -> None:
    log = behaviour([(0, 1), (0, 5), (0, 5), (0, 5)], [0, 1, 1, 1])
    parts = split(log, Split(by="last"), on_requests=True)
    assert list(parts.interactions) == [Part.TRAIN, Part.TEST, Part.TEST, Part.TEST]
    assert list(parts.requests) == [Part.TRAIN, Part.TEST]


@given(LOGS, st.sampled_from(Part))
def test_none_and_everything_are_one_part(log: Behaviour, part: Part) -> None:
    assert set(split(log, Split(by="none"), on_requests=False).interactions) <= {Part.TRAIN}
    assert set(everything(log, part).interactions) <= {part}


@pytest.mark.parametrize("by", ["time", "last", "none"])
@pytest.mark.parametrize("on_requests", [False, True])
def test_a_log_without_events(by: Any, on_requests: bool) -> None:
    parts = split(behaviour([]), Split(by=by), on_requests=on_requests)
    assert (len(parts.interactions), len(parts.requests)) == (0, 0)


@pytest.mark.parametrize("by", ["time", "last", "none"])
def test_every_event_and_request_has_a_part(made: Any, by: Any) -> None:
    parts = split(made.behaviour, Split(by=by), on_requests=True)
    assert len(parts.interactions) == len(made.behaviour.interactions)
    assert len(parts.requests) == len(made.behaviour.requests)
    assert set(parts.interactions) | set(parts.requests) <= set(Part)


def test_splitting_changes_nothing(made: Any) -> None:
    log = made.behaviour.interactions
    before = replace(log, request=log.request.copy(), at=log.at.copy())
    split(made.behaviour, Split(by="last"), on_requests=True)
    np.testing.assert_array_equal(before.request, log.request)
    np.testing.assert_array_equal(before.at, log.at)


def test_without_validation_only_the_validation_part_changes(made: Any) -> None:
    parts = split(made.behaviour, Split(by="time", validation=0.2, test=0.2), on_requests=True)
    merged = parts.training_on(Part.VALIDATION)
    for old, new in ((parts.interactions, merged.interactions), (parts.requests, merged.requests)):
        assert set(new) == {Part.TRAIN, Part.TEST}
        np.testing.assert_array_equal(new == Part.TEST, old == Part.TEST)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=0, max_size=80), st.integers(0, 5))
def test_a_random_split_loses_nothing_and_histories_are_what_is_trained_on(users: list[int], seed: int) -> None:
    log = behaviour([(user, 10 * place) for place, user in enumerate(sorted(users))])
    log = replace(log, interactions=replace(log.interactions, item=np.arange(len(users)) + 1))
    moved, parts = split_at_random(log, Split(by="random", validation=0.2, test=0.3), seed)
    found = moved.interactions
    assert sorted(found.item) == sorted(log.interactions.item)
    np.testing.assert_array_equal(found.user, log.interactions.user)
    at = dict(zip(log.interactions.item, log.interactions.at, strict=True))
    assert all(at[item] == moment for item, moment in zip(found.item, found.at, strict=True))
    for user in np.unique(found.user):
        mine = np.flatnonzero(found.user == user)
        part = parts.interactions[mine]
        assert list(part) == sorted(part)
        assert part[0] == Part.TRAIN
        for place in mine[part != Part.TRAIN]:
            history = parts.interactions[mine[0] : found.history_end[place]]
            earlier = range(parts.interactions[place])
            assert len(history) == sum((part == each).sum() for each in earlier)
            assert set(history) <= set(earlier)


def test_a_random_split_has_its_shares_and_depends_on_the_seed() -> None:
    log = behaviour([(user, place) for user in range(20) for place in range(50)])
    rule = Split(by="random", validation=0.1, test=0.2)
    parts = [split_at_random(log, rule, seed)[1].interactions for seed in (1, 1, 2)]
    assert [int((parts[0] == part).sum()) for part in (Part.TRAIN, Part.VALIDATION, Part.TEST)] == [700, 100, 200]
    order = [split_at_random(log, rule, seed)[0].interactions.at for seed in (1, 1, 2)]
    np.testing.assert_array_equal(order[0], order[1])
    assert (order[0] != order[2]).any()
