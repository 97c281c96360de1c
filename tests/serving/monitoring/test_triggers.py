"""Rules over time: thresholds, rows of windows, hysteresis, cool-downs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.monitoring import BadRules, Fired, Measure, Rule, Rules, State, step

HOUR = 3_600 * 10**6
DAY = 24 * HOUR


def rules(**rule: Any) -> Rules:
    return Rules(rules=(Rule(**({"name": "r", "metric": "m", "above": 10.0, "cool_down_hours": 0.0} | rule)),))


def play(told: Rules, values: Sequence[float | None], *, hours: float = 24) -> list[list[Fired]]:
    """What fires in each window."""
    state, fired = State(), []
    for number, value in enumerate(values):
        measures = [] if value is None else [Measure("", "", "m", value, value - 1, value + 1, 50)]
        now = int(number * hours * HOUR)
        state, found = step(state, told, measures, now, window=now)
        fired.append(found)
    return fired


def states(fired: list[list[Fired]]) -> str:
    return "".join(each[0].state[0] if each else "." for each in fired)


def test_it_is_raised_once_and_cleared_once() -> None:
    assert states(play(rules(), [9, 11, 12, 13, 9, 8, 11])) == ".r..c.r"
    assert states(play(rules(above=None, below=10.0), [11, 9, 8, 12])) == ".r.c"
    assert states(play(rules(), [10, 10])) == ".."


def test_only_a_row_of_windows_raises() -> None:
    assert states(play(rules(windows=3), [11, 11, 9, 11, 11, 11, 11])) == ".....r."
    # A window of which nothing is known neither breaks the row nor adds to it.
    assert states(play(rules(windows=2), [11, None, None, 11])) == "...r"


def test_between_the_thresholds_nothing_changes() -> None:
    assert states(play(rules(clears_at=5.0), [11, 7, 9, 11, 7, 5, 7, 11])) == "r....c.r"


def test_the_cool_down_holds_back_what_would_act_again() -> None:
    assert states(play(rules(cool_down_hours=72), [11, 9, 11, 11, 11])) == "rc.r."
    retrain = rules(cool_down_hours=48, action="retrain")
    assert states(play(retrain, [11, 11, 11, 11, 11])) == "r.r.r"
    assert states(play(rules(cool_down_hours=48), [11, 11, 11, 11])) == "r..."
    # Raised but no longer beyond: it does not act.
    assert states(play(rules(cool_down_hours=24, action="retrain", clears_at=5.0), [11, 7, 7, 11])) == "r..r"


def test_a_sure_rule_wants_the_whole_interval() -> None:
    assert states(play(rules(sure=True), [10.5, 11.5])) == ".r"
    assert states(play(rules(sure=True, above=None, below=10.0), [9.5, 8.5])) == ".r"
    assert states(play(rules(least_count=51), [20])) == "."


def test_other_variants_and_slices_are_not_meant() -> None:
    told = rules(variant="b", slice="language=de")
    measures = [Measure("", "", "m", 20, None, None, 5), Measure("b", "", "m", 20, None, None, 5)]
    assert step(State(), told, measures, 0)[1] == []
    (fired,) = step(State(), told, [Measure("b", "language=de", "m", 20, None, None, 5, "Because.")], 0)[1]
    assert "variant b, language=de" in fired.reason
    assert fired.reason.endswith("Because.")


def test_a_window_is_judged_once() -> None:
    measures = [Measure("", "", "m", 20, None, None, 5)]
    state, fired = step(State(), rules(), measures, DAY, window=DAY)
    assert len(fired) == 1
    assert state.raised == ["r"]
    assert step(state, rules(), measures, 2 * DAY, window=DAY) == (state, [])
    assert step(state, rules(), measures, 2 * DAY, window=0) == (state, [])


def test_rules_that_are_no_more_are_forgotten() -> None:
    state, _ = step(State(), rules(), [Measure("", "", "m", 20, None, None, 5)], 0)
    assert step(state, Rules(rules=()), [], 1)[0].rules == {}


values = st.lists(st.none() | st.floats(0, 20), max_size=30)


@settings(max_examples=150, deadline=None)
@given(values, st.integers(1, 3), st.floats(0, 100), st.sampled_from(["alert", "retrain"]), st.booleans())
def test_what_always_holds(found: list[float | None], windows: int, cool: float, action: Any, sure: bool) -> None:
    told = rules(windows=windows, clears_at=6.0, cool_down_hours=cool, action=action, sure=sure)
    raised, last = False, None
    for number, each in enumerate(play(told, found)):
        value, now = found[number], number * DAY
        if value is None or 6.0 < value <= 10.0:
            assert each == []
        for fired in each:
            if fired.state == "cleared":
                assert raised
                assert value is not None
                assert value <= 6.0
                raised = False
                continue
            assert value is not None
            assert value > 10.0
            assert not raised or action == "retrain"
            assert last is None or now - last >= cool * HOUR
            row = [each for each in found[: number + 1] if each is not None][-windows:]
            assert len(row) == windows
            assert all(each > 10.0 for each in row)
            raised, last = True, now


@settings(max_examples=50, deadline=None)
@given(values, st.integers(0, 30))
def test_a_state_that_is_stored_and_read_goes_on_as_it_was(found: list[float | None], cut: int) -> None:
    told = rules(windows=2, clears_at=6.0, cool_down_hours=30)
    state, kept = State(), State()
    for number, value in enumerate(found):
        measures = [] if value is None else [Measure("", "", "m", value, None, None, 5)]
        state, fired = step(state, told, measures, number * DAY, window=number * DAY)
        kept, same = step(kept, told, measures, number * DAY, window=number * DAY)
        if number == cut:
            kept = State.model_validate_json(kept.model_dump_json())
        assert fired == same


@pytest.mark.parametrize(
    "rule",
    [
        {"above": 1, "below": 2},
        {"above": None},
        {"clears_at": 11},
        {"windows": 0},
        {"surprise": 1},
        {"action": "panic"},
    ],
)
def test_rules_that_make_no_sense_are_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        rules(**rule)


def test_rules_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n- {name: slow, metric: latency_p99_ms, above: 80, clears_at: 60, windows: 2}\n")
    (rule,) = Rules.load(path).rules
    assert (rule.threshold, rule.clears_at, rule.windows) == (80, 60, 2)
    path.write_text('{"rules": []}')
    assert Rules.load(path).rules == ()
    for text, sentence in [
        ("rules: [{name: a, metric: b}]", "needs one of above and below"),
        ("rules: [{name: a, metric: b, above: 1}, {name: a, metric: c, above: 1}]", "two rules are called a"),
        ("rules: [", "no YAML"),
        ("just text", "rules.yaml"),
        ("rules: [{name: a, metric: b, above: .nan}]", "above"),
    ]:
        path.write_text(text)
        with pytest.raises(BadRules, match=sentence) as refused:
            Rules.load(path)
        assert "\n" not in str(refused.value)
    with pytest.raises(BadRules, match="cannot be read"):
        Rules.load(tmp_path / "none.yaml")
    assert len({rule.name for rule in Rules().rules}) == len(Rules().rules)
