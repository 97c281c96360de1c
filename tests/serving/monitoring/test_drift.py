"""Drift: found where there is some, quiet where there is none, and by the tests that it names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from serving.monitoring import Finding, Fingerprint, find_drift
from serving.monitoring.drift import LIMITS, chi_squared, psi
from serving.monitoring.features import Feature
from serving.monitoring.reference import reference_of
from tests.serving.monitoring.test_fingerprint import strings

USERS = 800


def made(seed: int, users: int = USERS, *, moved: float = 0.0, of: dict[str, Any] | None = None) -> Fingerprint:
    rng = np.random.default_rng(seed)
    features = {
        "language": Feature(strings(rng.choice(["en", "de", "fr"], users, p=[0.6 - moved, 0.3, 0.1 + moved]).tolist())),
        "dwell_seconds": Feature(rng.lognormal(3 + 2 * moved, 1, users)),
        "history_length": Feature(rng.poisson(5, users).astype(float)),
        "wanted_category": Feature(strings(rng.choice(["a", "b"], users, p=[0.5 - moved, 0.5 + moved]).tolist())),
    }
    vectors = {"embedding": Feature(rng.normal(moved * 2, 1, (users, 16)))}
    return Fingerprint.of(features, vectors, **({"source": "a test", "hours": 24} | (of or {})))


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {each.feature: each for each in findings}


def test_quiet_pairs_are_quiet_and_their_chances_even() -> None:
    alarms, chances = 0, []
    for seed in range(150):
        found, skipped = find_drift(made(2 * seed), made(2 * seed + 1), usual={})
        alarms += any(each.drifted for each in found)
        chances.append(by_name(found)["embedding"].p_value)
        assert len(skipped) == 1  # wanted_category: the agenda
        assert "wanted_category" in skipped[0]
    assert alarms == 0
    # Before Holm's correction it would be a tenth.
    assert np.mean(np.array(chances) < 0.1) < 0.1


def test_shifts_are_found_and_told() -> None:
    found, _ = find_drift(made(1), made(2, moved=0.25), usual={"wanted_category": 0.01})
    named = by_name(found)
    assert {name for name, each in named.items() if each.drifted} == {
        "language",
        "dwell_seconds",
        "wanted_category",
        "embedding",
    }
    assert "en 6" in named["language"].reason
    assert "median" in named["dwell_seconds"].reason
    assert "spreads" in named["embedding"].reason
    assert all(each.reason.endswith(f"{USERS} users.") for each in found)


def test_the_tests_are_the_ones_of_the_books() -> None:
    rng = np.random.default_rng(5)
    one, other = np.round(rng.normal(0, 1, 150), 2), np.round(rng.normal(0.3, 1, 200), 2)
    reference, current = (Fingerprint.of({"x": Feature(values)}, source="a test", hours=24) for values in (one, other))
    (found,), _ = find_drift(reference, current, usual={})
    expected = stats.ks_2samp(one, other, method="asymp")
    assert found.sizes["ks"] == pytest.approx(expected.statistic, abs=1e-9)
    counts = np.array([[30.0, 40, 50, 20], [40, 45, 30, 25]])
    assert chi_squared(counts) == pytest.approx(stats.chi2_contingency(counts, correction=False).pvalue)
    # Rare ones are pooled: with 2 + 1 + 2 of 140 a cell would expect less than 5.
    rare = np.array([[70.0, 60, 2, 1, 20], [60, 80, 1, 2, 17]])
    pooled = np.array([[70.0, 60, 23], [60, 80, 20]])
    assert chi_squared(rare) == pytest.approx(stats.chi2_contingency(pooled, correction=False).pvalue)
    assert chi_squared(np.array([[5.0, 0], [7, 0]])) == 1.0


def test_chi_squared_keeps_its_level_with_rare_categories() -> None:
    rng = np.random.default_rng(1)
    shares = np.r_[0.5, 0.3, np.full(40, 0.2 / 40)]
    chances = [chi_squared(np.stack([rng.multinomial(300, shares), rng.multinomial(300, shares)])) for _ in range(400)]
    assert 0.02 < np.mean(np.array(chances) < 0.05) < 0.09


def test_large_sketches_are_near_the_samples() -> None:
    rng = np.random.default_rng(6)
    one, other = rng.lognormal(0, 1, 6_000), rng.lognormal(0.1, 1, 5_000)
    fingerprints = [Fingerprint.of({"x": Feature(values)}, source="a test", hours=24) for values in (one, other)]
    (found,), _ = find_drift(*fingerprints, usual={})
    assert found.sizes["ks"] == pytest.approx(stats.ks_2samp(one, other).statistic, abs=0.006)


def test_small_differences_of_many_users_are_no_drift() -> None:
    found, _ = find_drift(made(1, 60_000), made(2, 60_000, moved=0.02), usual={})
    dwell = by_name(found)["dwell_seconds"]
    assert dwell.p_value < 1e-6
    assert not dwell.drifted
    assert "is near" in dwell.reason
    strict, _ = find_drift(made(1, 60_000), made(2, 60_000, moved=0.02), usual={}, limits={"ks": 0.01})
    assert by_name(strict)["dwell_seconds"].drifted


def test_what_is_usual_is_no_drift() -> None:
    moved = made(2, moved=0.15)
    (size,) = (each.sizes["psi"] for each in find_drift(made(1), moved, usual={})[0] if each.feature == "language")
    assert size > LIMITS["psi"]
    for usual, expected in ((size / 2.1, True), (size / 1.9, False)):
        assert by_name(find_drift(made(1), moved, usual={"language": usual})[0])["language"].drifted is expected


def test_what_cannot_be_compared_is_said() -> None:
    def skipped(reference: Fingerprint, current: Fingerprint) -> str:
        return " ".join(find_drift(reference, current, usual={})[1])

    assert "windows of 24 h" in skipped(made(1), made(2, of={"hours": 6}))
    told = skipped(made(1, of={"version": 1}), made(2, of={"version": 2}))
    assert "embedding is version 2's" in told
    assert "too few" in skipped(made(1), made(2, 99))
    nobody = Fingerprint.of({"language": Feature(strings([""] * 500))}, source="a test", hours=24)
    assert "language is unknown throughout" in skipped(nobody, made(1))
    assert "is not in a test" in skipped(nobody, made(1))
    narrow = Fingerprint.of({}, {"embedding": Feature(np.zeros((500, 9)))}, source="a test", hours=24)
    assert "16 numbers" in skipped(narrow, made(1))


def test_a_reference_of_several_windows_knows_what_is_usual() -> None:
    rng = np.random.default_rng(2)
    windows = [
        {"dwell_seconds": Feature(rng.normal(number, 1, 300), np.arange(300))}  # it moves on every day
        for number in range(4)
    ]
    reference = reference_of(windows, hours=24, source="a test")
    assert reference.numbers["dwell_seconds"].rows == 1_200
    assert reference.numbers["dwell_seconds"].worth == pytest.approx(300)
    assert reference.usual["dwell_seconds"] > reference.usual_next["dwell_seconds"] > 0.3
    alone = reference_of(windows[:1], hours=24, left_out=("dwell_seconds",), source="a test")
    assert alone.numbers == alone.usual == {}


def test_the_index_is_what_it_is_defined_as() -> None:
    assert psi(np.array([50, 50]), np.array([25, 75])) == pytest.approx(-0.25 * np.log(0.5) + 0.25 * np.log(1.5))
    assert psi(np.array([10, 20]), np.array([100, 200])) == pytest.approx(0)
