"""What a fingerprint keeps, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.monitoring import BadFingerprint, Fingerprint
from serving.monitoring.features import Feature
from serving.monitoring.fingerprint import OTHERS, directions

numbers = st.lists(st.floats(-1e9, 1e9) | st.just(float("nan")) | st.integers(0, 5).map(float), max_size=400)
words = st.lists(st.text(max_size=5), max_size=200)


def strings(values: list[str]) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column


@settings(max_examples=60, deadline=None)
@given(numbers, words, st.integers(0, 40), st.integers(1, 12), st.none() | st.integers(0, 2**50))
def test_what_is_written_is_read(found: list[float], said: list[str], rows: int, width: int, until: int | None) -> None:
    vectors = np.random.default_rng(rows).normal(size=(rows, width))
    made = Fingerprint.of(
        {"number": Feature(np.array(found, float)), "word": Feature(strings(said))},
        {"vector": Feature(vectors)},
        source="a test",
        hours=24,
        until=until,
    )
    assert Fingerprint.parse(made.dump()) == made
    known = np.array([value for value in found if value == value])
    if len(known):
        kept = made.numbers["number"]
        assert kept.rows == len(known)
        assert kept.at_most[-1] == 1.0
        for place in range(0, len(kept.points), 17):
            point = kept.points[place]
            rounded = np.array([float(f"{value:.9g}") for value in known])
            assert kept.at_most[place] == pytest.approx((rounded <= point).mean())
            assert kept.share(np.array([point]), below=True)[0] == pytest.approx((rounded < point).mean())
    assert sum(made.categories["word"].counts.values() if said else []) == len(said)


def test_no_user_or_item_is_in_it() -> None:
    units = np.array([123456789, 987654321])
    made = Fingerprint.of({"word": Feature(strings(["en", "de"]), units)}, source="a test", hours=24)
    assert "123456789" not in made.dump()


def test_rare_categories_are_one() -> None:
    said = [f"c{number}" for number in range(300)] + ["often"] * 10
    counts = Fingerprint.of({"word": Feature(strings(said))}, source="a test", hours=24).categories["word"].counts
    assert len(counts) == 101
    assert counts["often"] == 10
    assert counts[OTHERS] == 201


def test_draws_that_came_together_are_worth_less() -> None:
    feature = Feature(np.arange(100.0), np.repeat(np.arange(10), 10))
    assert feature.worth() == pytest.approx(10)
    assert Feature(np.arange(100.0)).worth() == 100
    weights = np.r_[np.ones(50), np.zeros(50)]
    assert Feature(strings(["a"] * 100), np.arange(100), weights).worth() == pytest.approx(50)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 2}, "newer"),
        ({"hours": 0}, "hours"),
        ({"surprise": 1}, "surprise"),
        (
            {"numbers": {"x": {"rows": 2, "worth": 2, "points": [2, 1], "at_most": [0.5, 1], "below": [0, 0.5]}}},
            "order",
        ),
        ({"numbers": {"x": {"rows": 2, "worth": 2, "points": [1], "at_most": [0.5, 1], "below": [0]}}}, "equally many"),
        ({"numbers": {"x": {"rows": 1, "worth": 1, "points": [1], "at_most": [1.5], "below": [0]}}}, "1"),
        ({"numbers": {"x": {"rows": 1, "worth": 1, "points": [], "at_most": [], "below": []}}}, "points"),
        ({"categories": {"x": {"rows": 1, "worth": 1, "counts": {}}}}, "no counts"),
        ({"categories": {"x": {"rows": 1, "worth": 0, "counts": {"a": 1}}}}, "worth"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(change: dict[str, object], sentence: str) -> None:
    good = json.loads(Fingerprint.of({}, source="a test", hours=24).dump())
    with pytest.raises(BadFingerprint, match=sentence) as refused:
        Fingerprint.parse(json.dumps(good | change))
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


def test_files(tmp_path: Path) -> None:
    with pytest.raises(BadFingerprint, match="No such file"):
        Fingerprint.load(tmp_path / "none.json")
    (tmp_path / "broken.json").write_bytes(b"\xff{")
    with pytest.raises(BadFingerprint):
        Fingerprint.load(tmp_path / "broken.json")


def test_directions_never_change() -> None:
    found = directions(20)
    assert found.shape == (20, 8)
    np.testing.assert_array_equal(found, directions(20))
    assert "".join("+" if value > 0 else "-" for value in found[0]) == SIGNS
    np.testing.assert_array_equal(directions(5), np.eye(5))


SIGNS = "-++-----"
