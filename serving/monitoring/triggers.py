"""From measures to alerts and retrainings: thresholds with hysteresis and a cool-down, as a pure function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from serving.monitoring.measures import Measure
from serving.monitoring.rules import Action, Rule, Rules

_HOUR = 3_600_000_000  # microseconds


class RuleState(BaseModel):
    """How far one rule is. Times are microseconds since 1970."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beyond: int = 0  # windows in a row
    raised_at: int | None = None
    acted_at: int | None = None


class State(BaseModel):
    """Of all rules, by name; `window` is the start of the latest window that was judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: int | None = None
    rules: dict[str, RuleState] = {}

    @property
    def raised(self) -> list[str]:
        return sorted(name for name, each in self.rules.items() if each.raised_at is not None)


class Fired(NamedTuple):
    """A rule that was raised or cleared, or acts once more; `at` is in microseconds since 1970."""

    rule: str
    state: Literal["raised", "cleared"]
    action: Action
    at: int
    reason: str


def step(
    state: State, rules: Rules, measures: Iterable[Measure], now: int, *, window: int | None = None
) -> tuple[State, list[Fired]]:
    """Judge one window.

    What a rule says of its measure is in `Rule`. A rule that is raised during the cool-down acts when that is over, if
    it is still beyond.

    Args:
        measures: Of the window.
        now: Microseconds since 1970.
        window: Its start. One that is not later than the latest judged is not judged again.

    Returns:
        The next state, in which rules that are no more are forgotten; and what fired, in the order of the rules.
    """
    if window is not None and state.window is not None and window <= state.window:
        return state, []
    known = {each.key: each for each in measures}
    found: dict[str, RuleState] = {}
    fired: list[Fired] = []
    for rule in rules.rules:
        before = state.rules.get(rule.name, RuleState())
        measure = known.get((rule.variant, rule.slice, rule.metric))
        if measure is None or measure.count < rule.least_count:
            found[rule.name] = before
            continue
        found[rule.name], what = _judge(rule, before, measure, now)
        fired += [] if what is None else [what]
    return State(window=state.window if window is None else window, rules=found), fired


def _judge(rule: Rule, before: RuleState, measure: Measure, now: int) -> tuple[RuleState, Fired | None]:
    edge = measure.value
    if rule.sure:
        bound = measure.low if rule.above is not None else measure.high
        edge = edge if bound is None else bound
    beyond = before.beyond + 1 if rule.beyond(edge, rule.threshold) else 0
    clears_at = rule.threshold if rule.clears_at is None else rule.clears_at
    raised = before.raised_at is not None
    if raised and not rule.beyond(measure.value, clears_at):
        fired = Fired(rule.name, "cleared", rule.action, now, _reason(rule, measure, clears_at, "is back at"))
        return RuleState(beyond=0, acted_at=before.acted_at), fired
    enough = beyond >= rule.windows
    rested = before.acted_at is None or now - before.acted_at >= rule.cool_down_hours * _HOUR
    if not (enough and rested and (not raised or rule.action == "retrain")):
        return before.model_copy(update={"beyond": beyond}), None
    reason = _reason(rule, measure, rule.threshold, "is at")
    if beyond > 1:
        reason += f" For {beyond} windows in a row."
    after = RuleState(beyond=beyond, raised_at=before.raised_at if raised else now, acted_at=now)
    return after, Fired(rule.name, "raised", rule.action, now, reason)


def _reason(rule: Rule, measure: Measure, threshold: float, verb: str) -> str:
    of = ", ".join(each for each in (rule.variant and f"variant {rule.variant}", rule.slice) if each)
    interval = "" if measure.low is None or measure.high is None else f" ({measure.low:.4g} to {measure.high:.4g})"
    limit = "above" if rule.above is not None else "below"
    text = f"{rule.metric}{f' of {of}' if of else ''} {verb} {measure.value:.4g}{interval}, and {limit} {threshold:g} "
    text += "is too much" if rule.above is not None else "is too little"
    return f"{text}, of {measure.count:,}.{' ' + measure.note if measure.note else ''}"
