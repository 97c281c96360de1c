from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.experiments.interleaving import preference, team_draft
from serving.experiments.thompson import thompson_shares

RANKING = st.lists(st.integers(0, 15), unique=True, max_size=12).map(lambda found: [str(each) for each in found])


@given(RANKING, RANKING, st.integers(1, 10), st.integers(0, 99))
def test_a_slate_has_each_item_once_and_every_pick_is_its_teams_best(
    first: list[str], second: list[str], count: int, seed: int
) -> None:
    found = team_draft(first, second, count, seed)
    assert len(set(found.items)) == len(found.items) == len(found.team) <= count
    assert len(found.items) == min(count, len({*first, *second}))
    for at, (item, side) in enumerate(zip(found.items, found.team, strict=True)):
        ranking = (first, second)[max(side, 0)]
        assert item == next(each for each in ranking if each not in found.items[:at])


def test_both_have_as_many_picks_and_nobody_is_favoured() -> None:
    first, second = [f"a{n}" for n in range(10)], [f"b{n}" for n in range(10)]
    picks = np.zeros(10)
    for seed in range(600):
        found = team_draft(first, second, 10, seed)
        assert found.team.count(0) == 5
        picks += np.array(found.team)
    np.testing.assert_allclose(picks / 600, 0.5, atol=0.08)


def test_what_both_begin_with_is_nobodys() -> None:
    assert team_draft(["x", "y", "a"], ["x", "y", "b"], 4, 0).team[:2] == [-1, -1]
    assert team_draft(["x"], ["x"], 4, 0) == team_draft(["x"], ["x"], 1, 1)


def test_a_preference_is_by_request() -> None:
    assert preference(np.array([3, 0, 1]), np.array([1, 0, 4])).tolist() == [1, 0, -1]


def test_traffic_follows_what_is_probably_best() -> None:
    even = thompson_shares({"a": 10, "b": 10}, {"a": 100, "b": 100}, seed=0)
    assert even["a"] == pytest.approx(0.5, abs=0.02)
    clear = thompson_shares({"a": 100, "b": 200}, {"a": 1000, "b": 1000}, seed=0, least=0.05)
    assert clear["b"] == pytest.approx(0.95, abs=1e-3)
    assert sum(clear.values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="more successes"):
        thompson_shares({"a": 2}, {"a": 1}, seed=0)
    with pytest.raises(ValueError, match="cannot keep"):
        thompson_shares({"a": 1, "b": 1}, {"a": 1, "b": 1}, seed=0, least=0.6)


def test_a_better_variant_gets_most_of_the_traffic_in_the_long_run() -> None:
    rng, rates = np.random.default_rng(5), {"a": 0.05, "b": 0.08}
    successes, trials = dict.fromkeys(rates, 0.0), dict.fromkeys(rates, 0.0)
    for batch in range(60):
        shares = thompson_shares(successes, trials, seed=batch)
        for name, share in shares.items():
            users = round(200 * share)
            trials[name] += users
            successes[name] += float(rng.binomial(users, rates[name]))
    assert trials["b"] > 0.8 * sum(trials.values())
