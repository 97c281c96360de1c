"""What an experiment may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.experiments.declaration import BadExperiment, Experiment, conflict

EVEN = {"control": {"share": 0.5}, "treatment": {"share": 0.5, "treatment": {"category_share": 0.3}}}


def declared(name: str = "e", **more: Any) -> Experiment:
    return Experiment.read({"name": name, "variants": EVEN} | more)


def test_a_file_says_what_json_says(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(
        "name: e\ncontrol: a\nvariants:\n  a: {share: 0.5}\n  b: {share: 0.5, treatment: {label: canary}}\n"
    )
    found = Experiment.load(path)
    assert found.control == "a"
    assert found.treated["b"].treatment.changes == {"label": "canary"}
    path.write_text(found.model_dump_json())
    assert Experiment.load(path) == found


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([], "valid dictionary"),
        ({"name": "a b", "variants": EVEN}, "name: "),
        ({"name": "e", "variants": {"a": {"share": 0.5}}}, "variants: "),
        ({"name": "e", "control": "a", "variants": {"a": {"share": 0.5}, "b": {"share": 0.4}}}, "sum to 1"),
        ({"name": "e", "variants": {"a": {"share": 0.5}, "b": {"share": 0.5}}}, "no variant"),
        ({"name": "e", "variants": EVEN, "start": 0.5, "end": 0.4}, "range"),
        ({"name": "e", "variants": EVEN, "method": "interleaving", "metric": "dwell"}, "interleaving"),
        ({"name": "e", "variants": EVEN, "method": "thompson", "metric": "dwell"}, "Thompson"),
        (
            {
                "name": "e",
                "variants": EVEN,
                "method": "interleaving",
                "guardrails": [{"metric": "latency_ms", "most": 0.1}],
            },
            "no guardrails",
        ),
        ({"name": "e", "variants": EVEN, "on_win": "promote"}, "label"),
        ({"name": "e", "variants": EVEN, "unknown": 1}, "unknown: "),
        ({"name": "e", "variants": EVEN, "alpha": float("nan")}, "alpha: "),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(content: Any, told: str) -> None:
    with pytest.raises(BadExperiment, match=told) as error:
        Experiment.read(content)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadExperiment, match="cannot be read"):
        Experiment.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(BadExperiment, match="neither YAML nor JSON"):
        Experiment.load(tmp_path / "bad.yaml")


def test_experiments_that_cannot_run_together() -> None:
    first = declared("a", end=0.5)
    assert conflict(declared("b", start=0.5), [first]) is None
    assert "share users" in str(conflict(declared("b", start=0.4), [first]))
    assert "both set category_share" in str(conflict(declared("b", layer="other"), [first]))
    other = {"x": {"share": 0.5}, "y": {"share": 0.5, "treatment": {"explore": 0.1}}}
    assert conflict(declared("b", layer="other", variants=other, control="x"), [first]) is None
    mixed = declared("b", layer="other", variants=other, control="x", method="interleaving")
    assert "into one answer" in str(conflict(mixed, [declared("a", method="interleaving")]))
    assert "running already" in str(conflict(declared("a", layer="other"), [first]))


@given(st.lists(st.tuples(st.floats(0, 0.9), st.floats(0.01, 0.1)), max_size=6), st.text(min_size=1, max_size=8))
def test_no_user_is_in_two_experiments_that_may_run_together(ranges: list[tuple[float, float]], user: str) -> None:
    running: list[Experiment] = []
    for number, (start, width) in enumerate(ranges):
        one = declared(f"e{number}", start=start, end=min(1.0, start + width))
        if conflict(one, running) is None:
            running.append(one)
    assert sum(each.split.variant(user) is not None for each in running) <= 1
