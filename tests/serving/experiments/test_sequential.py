from __future__ import annotations

import numpy as np
import pytest

from serving.experiments.sample_ratio import sample_ratio_evidence
from serving.experiments.sequential import boundary, difference, users_needed
from serving.experiments.values import adjusted, ratio_values

RATE, LOOK = 0.05, 500


def looks(rng: np.random.Generator, rates: tuple[float, float], users: int, planned: int) -> int | None:
    """Users at the first look that finds a difference, None for none."""
    arms = [rng.random(users // 2) < rate for rate in rates]
    for seen in range(LOOK, users + 1, LOOK):
        if difference(*(arm[: seen // 2].astype(float) for arm in arms), planned=planned).decided:
            return seen
    return None


def test_looking_all_the_time_does_not_raise_false_alarms() -> None:
    rng = np.random.default_rng(0)
    alarms = sum(looks(rng, (RATE, RATE), 30_000, 30_000) is not None for _ in range(150))
    assert alarms <= 150 * 0.05 + 2.33 * np.sqrt(150 * 0.05 * 0.95)  # 99 % of samples of an exact 5 % test
    # A test for one look, looked at as often, is wrong far more often than it says.
    peeking = 0
    for _ in range(150):
        control, treatment = (rng.random(15_000) < RATE for _ in range(2))
        n = np.arange(LOOK // 2, 15_001, LOOK // 2)
        mean = [np.cumsum(each)[n - 1] / n for each in (control, treatment)]
        error = np.sqrt(sum(each * (1 - each) for each in mean) / n)
        peeking += bool((np.abs(mean[1] - mean[0]) > 1.96 * error).any())
    assert peeking > 3 * alarms


def test_a_lift_is_found_within_the_users_that_it_takes() -> None:
    rng, lift = np.random.default_rng(1), 0.3
    sequential, fixed = users_needed(RATE, RATE * (1 - RATE), lift)
    assert fixed < sequential < 3 * fixed
    found = [looks(rng, (RATE, RATE * (1 + lift)), sequential, sequential) for _ in range(80)]
    users = [each for each in found if each is not None]
    assert len(users) >= 0.8 * len(found) - 2.33 * np.sqrt(80 * 0.8 * 0.2)
    assert np.median(users) < sequential


def test_the_boundary_is_tightest_near_the_plan_and_wider_than_that_of_one_look() -> None:
    reach = {users: boundary(users, 10_000, 0.05) for users in (500, 5_000, 10_000, 20_000, 1_000_000)}
    assert min(reach, key=reach.__getitem__) in (5_000, 10_000, 20_000)
    assert min(reach.values()) > 1.96
    assert boundary(10_000, 10_000, 0.01) > reach[10_000]


def test_an_arm_of_one_user_says_nothing() -> None:
    with pytest.raises(ValueError, match="two users"):
        difference(np.ones(1), np.ones(5), planned=10)


def test_ratios_are_as_uncertain_as_their_users_are() -> None:
    """Users see different numbers of items: impressions are not independent, and a test of them is overconfident."""
    rng, estimates, errors, naive = np.random.default_rng(2), [], [], []
    for _ in range(300):
        rate = rng.beta(1, 19, 400)
        shown = rng.geometric(0.05, 400)
        clicks = rng.binomial(shown, rate)
        (values,) = ratio_values([clicks.astype(float)], [shown.astype(float)])
        estimates.append(values.mean())
        errors.append(values.std(ddof=1) / 20)
        ratio = clicks.sum() / shown.sum()
        naive.append(np.sqrt(ratio * (1 - ratio) / shown.sum()))
        assert values.mean() == pytest.approx(ratio)
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.15)
    assert np.mean(naive) < 0.7 * np.std(estimates)


def test_what_was_there_before_is_taken_out_and_the_effect_is_not() -> None:
    rng, plain, less = np.random.default_rng(3), [], []
    for _ in range(200):
        before = [rng.normal(size=300) for _ in range(2)]
        values = [each + rng.normal(size=300) * 0.5 + effect for each, effect in zip(before, (0, 0.2), strict=True)]
        plain.append(values[1].mean() - values[0].mean())
        control, treatment = adjusted(values, before)
        less.append(treatment.mean() - control.mean())
    assert np.mean(less) == pytest.approx(0.2, abs=0.01)
    assert np.var(less) < 0.35 * np.var(plain)
    same = [np.arange(3.0), np.arange(4.0)]
    assert adjusted(same, [np.ones(3), np.ones(4)]) == same


def test_a_ratio_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no denominator"):
        ratio_values([np.zeros(3)], [np.zeros(3)])


def test_arms_that_lack_users_are_noticed_and_sound_ones_are_not() -> None:
    rng, shares = np.random.default_rng(4), {"a": 0.5, "b": 0.5}
    alarms = found = 0
    for _ in range(200):
        for share in (0.5, 0.47):
            drawn = np.cumsum(rng.random(20_000) < share)
            alarm = any(
                sample_ratio_evidence({"a": int(drawn[n - 1]), "b": n - int(drawn[n - 1])}, shares) > 20
                for n in range(500, 20_001, 500)
            )
            alarms, found = alarms + (alarm and share == 0.5), found + (alarm and share != 0.5)
    assert alarms <= 200 * 0.05
    assert found >= 195
    with pytest.raises(ValueError, match="planned"):
        sample_ratio_evidence({"a": 1}, shares)
