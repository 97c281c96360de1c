from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.experiments.assignment import Split, overlapping, place

USERS = [f"user {number}" for number in range(20_000)]
SPLIT = Split("ranker", "feed", 0.2, 0.7, {"control": 0.5, "candidate": 0.3, "other": 0.2})


@given(st.text(), st.text())
def test_a_place_is_the_same_every_time_and_from_0_to_1(salt: str, user: str) -> None:
    assert place(salt, user) == place(salt, user)
    assert 0 <= place(salt, user) < 1


def test_places_are_uniform_and_independent_between_salts() -> None:
    one, other = (np.array([place(salt, user) for user in USERS]) for salt in ("a", "b"))
    for places in (one, other):
        counts = np.histogram(places, bins=20, range=(0, 1))[0]
        assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-squared with 19 degrees, 0.1 %
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


def test_users_are_divided_as_planned() -> None:
    found = [SPLIT.variant(user) for user in USERS]
    there = [variant for variant in found if variant]
    assert len(there) / len(USERS) == pytest.approx(0.5, abs=0.015)
    for name, share in SPLIT.shares.items():
        assert there.count(name) / len(there) == pytest.approx(share, abs=0.02)


def test_who_is_in_stays_in_with_the_same_variant_while_the_ramp_grows() -> None:
    small, large = replace(SPLIT, ramp=0.1), replace(SPLIT, ramp=0.6)
    inside = {user: small.variant(user) for user in USERS if small.variant(user)}
    assert 0.03 < len(inside) / len(USERS) < 0.07
    assert all(large.variant(user) == variant for user, variant in inside.items())


def test_experiments_of_a_layer_exclude_one_another_and_of_two_layers_do_not_depend() -> None:
    halves = {"a": 0.5, "b": 0.5}
    one, next_to_it = Split("one", "feed", 0, 0.5, halves), Split("two", "feed", 0.5, 1, halves)
    assert not any(one.variant(user) and next_to_it.variant(user) for user in USERS[:2000])
    assert overlapping([one, next_to_it]) is None
    assert overlapping([one, Split("two", "feed", 0.4, 1, halves)]) == ("one", "two")
    crossed = Split("three", "mail", 0, 1, halves)
    of_a = [crossed.variant(user) for user in USERS if one.variant(user) == "a"]
    assert of_a.count("a") / len(of_a) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": 0.7},
        {"end": 1.2},
        {"shares": {"control": 1.0}},
        {"shares": {"a": 0.5, "b": 0.4}},
        {"shares": {"a": 1.0, "b": 0.0}},
        {"ramp": -0.1},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="ranker: "):
        replace(SPLIT, **wrong)  # type: ignore[arg-type]
