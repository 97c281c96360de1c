from __future__ import annotations

import numpy as np
import pytest

from serving.experiments.off_policy import off_policy


def world(rng: np.random.Generator, records: int, *, narrow: bool = False) -> tuple[dict[str, np.ndarray], float]:
    """Records of a policy that explores, and the true value of another that chooses by the context."""
    context = rng.integers(0, 4, records)
    rate = np.array([[0.1, 0.3, 0.2], [0.2, 0.1, 0.3], [0.3, 0.2, 0.1], [0.05, 0.05, 0.4]])
    logged = np.array([0.9, 0.08, 0.02] if not narrow else [1.0, 0.0, 0.0])
    target = np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.2, 0.2, 0.6]])
    action = rng.choice(3, records, p=logged)
    guess = rate + rng.normal(0, 0.03, rate.shape)
    return {
        "reward": (rng.random(records) < rate[context, action]).astype(float),
        "logged": logged[action],
        "target": target[context, action],
        "predicted": guess[context, action],
        "expected": (target * guess).sum(axis=1)[context],
    }, float((target * rate).sum(axis=1).mean())


def test_the_truth_is_inside_the_intervals() -> None:
    rng, inside = np.random.default_rng(0), {"ips": 0, "snips": 0, "doubly_robust": 0}
    widths = {name: [] for name in inside}
    for _ in range(120):
        records, truth = world(rng, 3_000)
        found = off_policy(**records)
        assert found.warnings == ()
        for name in inside:
            value = getattr(found, name)
            inside[name] += value.low <= truth <= value.high
            widths[name].append(value.high - value.low)
    assert min(inside.values()) >= 0.9 * 120
    assert np.mean(widths["doubly_robust"]) < np.mean(widths["snips"]) <= np.mean(widths["ips"]) * 1.02


def test_records_of_the_same_user_say_less() -> None:
    rng = np.random.default_rng(1)
    records, _ = world(rng, 500)
    repeated = {name: np.repeat(values, 5) for name, values in records.items()}
    alone = off_policy(**records).snips
    naive = off_policy(**repeated).snips
    clustered = off_policy(**repeated, cluster=np.repeat(np.arange(500), 5)).snips
    assert clustered.value == pytest.approx(alone.value)
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low)
    assert naive.high - naive.low < 0.5 * (alone.high - alone.low)


def test_its_own_policy_has_its_own_mean() -> None:
    records, _ = world(np.random.default_rng(2), 1_000)
    found = off_policy(records["reward"], records["logged"], records["logged"])
    assert found.ips.value == pytest.approx(found.snips.value) == pytest.approx(records["reward"].mean())
    assert found.effective == pytest.approx(1_000)
    assert found.doubly_robust is None


def test_thin_overlap_is_said() -> None:
    records, _ = world(np.random.default_rng(3), 2_000, narrow=True)
    assert any("was never shown" in each for each in off_policy(**records).warnings)
    weight = np.full(2_000, 0.001)
    weight[0] = 1.0
    found = off_policy(np.ones(2_000), np.where(weight == 1, 0.001, 0.999), weight)
    assert any("overlap is thin" in each for each in found.warnings)
    assert any("of all weight" in each for each in found.warnings)


def test_propensities_out_of_range_are_refused() -> None:
    for logged, target in ((0.0, 0.5), (1.5, 0.5), (0.5, -0.1), (0.5, 1.1)):
        with pytest.raises(ValueError, match="propensities"):
            off_policy(np.ones(1), np.array([logged]), np.array([target]))
