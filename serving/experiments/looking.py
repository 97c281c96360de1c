"""A look at an experiment: the evidence so far, and what follows from it. It may be repeated as often as one likes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from serving.events import Store
from serving.experiments.declaration import COSTS, Experiment, Limit
from serving.experiments.exposures import INTERLEAVED, Arm, Exposures, read_exposures
from serving.experiments.records import Record, add_look
from serving.experiments.sample_ratio import sample_ratio_evidence
from serving.experiments.sequential import Difference, difference, distance_from_zero
from serving.experiments.thompson import thompson_shares
from serving.experiments.values import adjusted, ratio_values

Verdict = Literal["running", "won", "lost", "guardrail", "broken", "undecided"]
_BROKEN = 1_000.0  # evidence against the shares: a sound experiment comes to it once in so many
_HOUR = 3_600_000_000
_SURE = 0.95  # of being the best, for Thompson sampling to end
_UNNAMED = "No event names a request_id of the experiment: clicks are unknown."
# Above and below of each metric; None for one a user.
_RATIOS: dict[str, tuple[str, str | None]] = {
    "ctr": ("clicks", "shown"),
    "clicks": ("clicks", None),
    "dwell": ("dwell", "shown"),
    "fallback_rate": ("fallbacks", "slates"),
    "latency_ms": ("latency_ms", "timed"),
    "preference": ("preference", "slates"),
}


@dataclass(frozen=True)
class Look:
    """What an experiment has shown.

    Args:
        at: Microseconds since 1970.
        users: By variant; those who saw two variants are `left_out`.
        value: The metric by variant; what a user of it brings on average.
        leads: Each treatment's lead over the control, with its confidence sequence.
        limits: Of each guardrail, the treatment's difference; by `treatment/metric`.
        sample_ratio: Evidence against the planned shares; above 1,000 the experiment is broken.
        shares: Of the next users, for Thompson sampling.
        winner: The variant that won.
        versions: Slates by variant and the version of the model that answered; see `Arm.versions`.
        why: One sentence.
        verdict: `running`, or how it ended: `won`, `lost`, `guardrail`, `undecided` or `broken`.

    Example:
        >>> from serving import Difference, Look
        >>> found = Look(
        ...     at=0,
        ...     verdict="won",
        ...     why="wider leads.",
        ...     users={"control": 900, "wider": 880},
        ...     left_out=3,
        ...     value={"control": 0.10, "wider": 0.12},
        ...     leads={"wider": Difference(0.02, 0.01, 0.03, 1780)},
        ...     limits={},
        ...     sample_ratio=1.0,
        ...     winner="wider",
        ... )
        >>> found.leads["wider"].decided
        True
    """

    at: int
    verdict: Verdict
    why: str
    users: dict[str, int]
    left_out: int
    value: dict[str, float]
    leads: dict[str, Difference]
    limits: dict[str, Difference]
    sample_ratio: float
    shares: dict[str, float] | None = None
    winner: str | None = None
    versions: dict[str, dict[str, int]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def look(store: Store, record: Record, now: int) -> Look:
    """Look at an experiment at `now` (microseconds since 1970), and keep what was seen.

    Everything here is valid at every look at once, so that looking often, and stopping at the first decision, raises no
    false alarms beyond alpha; Thompson sampling is the exception, which says what is probably best. Nothing is changed:
    see `serving.experiments.records` for what ends an experiment.

    Raises:
        StoreAway: The database cannot be reached.

    Args:
        store: An open store.
        record: The experiment, as `read_experiment` gives it.
        now: Microseconds since 1970.

    Example:
        >>> from serving import Experiment, Store, look, read_experiment, start_experiment, wall_clock
        >>> shares = {"control": {"share": 0.5}, "wider": {"share": 0.5, "treatment": {"category_share": 0.8}}}
        >>> with Store("store-of-a-look") as store:
        ...     start_experiment(store, Experiment(name="wider", variants=shares), wall_clock())
        ...     look(store, read_experiment(store, "wider"), wall_clock()).verdict
        'running'
    """
    experiment = record.experiment
    variants = [INTERLEAVED] if experiment.method == "interleaving" else list(experiment.variants)
    before = round(experiment.before_hours * _HOUR) if experiment.method == "sequential" else 0
    until = min(now, record.stopped_at or now)
    moving = experiment.method == "thompson"
    found = read_exposures(store, experiment.name, variants, record.started_at, until, before, moving=moving)
    over = until - record.started_at >= experiment.longest_hours * _HOUR
    seen = judge(experiment, found, now, over=over)
    add_look(store, experiment.name, now, seen.as_json())
    return seen


def judge(experiment: Experiment, found: Exposures, at: int, *, over: bool = False) -> Look:
    """What the counts say; see `look`.

    Args:
        over: Whether it has run for as long as it may: what is not decided now is undecided.
    """
    seen = _judge(experiment, found, at)
    if over and seen.verdict == "running":
        return replace(seen, verdict="undecided", why=f"It ran for {experiment.longest_hours:g} hours. {seen.why}")
    return seen


def _judge(experiment: Experiment, found: Exposures, at: int) -> Look:
    seen = _seen(experiment, found, at)
    versions = {
        name: {str(each): arm.versions[each] for each in sorted(arm.versions)} for name, arm in found.arms.items()
    }
    return replace(seen, versions=versions)


def _seen(experiment: Experiment, found: Exposures, at: int) -> Look:
    if experiment.method == "interleaving":
        return _judge_interleaving(experiment, found, at)
    arms = {name: found.arms[name] for name in experiment.variants}
    users = {name: len(arm) for name, arm in arms.items()}
    seen: dict[str, Any] = {"at": at, "users": users, "left_out": found.left_out}
    seen |= {"value": {}, "leads": {}, "limits": {}, "sample_ratio": 1.0}
    shares = experiment.split.shares
    if experiment.method == "sequential":
        seen["sample_ratio"] = sample_ratio_evidence(users, shares)
    if seen["sample_ratio"] > _BROKEN:
        told = ", ".join(f"{name} {count:,}" for name, count in users.items())
        planned = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        return Look(verdict="broken", why=f"Users are not divided as planned: {told}, planned {planned}.", **seen)
    few = min(users, key=lambda name: users[name])
    if users[few] < experiment.least_users:
        return Look(verdict="running", why=f"{few} has {users[few]:,} users of {experiment.least_users:,}.", **seen)
    if not found.named:
        return Look(verdict="running", why=_UNNAMED, **seen)
    if nothing := next((name for name, arm in arms.items() if not _known(arm, experiment.metric)), None):
        return Look(verdict="running", why=f"{nothing} was shown nothing: its answers are empty.", **seen)
    seen["value"] = {name: _mean(arm, experiment.metric) for name, arm in arms.items()}
    if experiment.method == "sequential":
        for name in experiment.treated:
            seen["leads"][name] = _difference(experiment, arms, name, experiment.metric)
    for limit in experiment.guardrails:
        for name in experiment.treated:
            # Where nothing is known of it, such as latency of slates that came without, nothing is said.
            if _known(arms[experiment.control], limit.metric) and _known(arms[name], limit.metric):
                seen["limits"][f"{name}/{limit.metric}"] = _difference(experiment, arms, name, limit.metric)
    if why := _breach(experiment, arms, seen["limits"]):
        return Look(verdict="guardrail", why=why, **seen)
    return _judge_thompson(experiment, arms, seen) if experiment.method == "thompson" else _decide(experiment, seen)


def _breach(experiment: Experiment, arms: dict[str, Arm], limits: dict[str, Difference]) -> str | None:
    """What is surely worse than allowed."""
    for limit in experiment.guardrails:
        for name in experiment.treated:
            lead = limits.get(f"{name}/{limit.metric}")
            worst = _worst(limit, _mean(arms[experiment.control], limit.metric)) if lead else 0.0
            if lead and (lead.low > worst if limit.metric in COSTS else lead.high < -worst):
                return f"{name} is worse in {limit.metric} by more than allowed: {_told(lead)}, allowed {worst:.4g}."
    return None


def _decide(experiment: Experiment, seen: dict[str, Any]) -> Look:
    leads: dict[str, Difference] = seen["leads"]
    better = {name: lead for name, lead in leads.items() if lead.low > 0}
    if better:
        winner = max(better, key=lambda name: better[name].value)
        why = f"{winner} is better in {experiment.metric} than {experiment.control}: {_told(leads[winner])}."
        return Look(verdict="won", winner=winner, why=why, **seen)
    told = "; ".join(f"{name} {_told(lead)}" for name, lead in leads.items())
    if all(lead.high < 0 for lead in leads.values()):
        return Look(verdict="lost", why=f"Worse in {experiment.metric} than {experiment.control}: {told}.", **seen)
    count = sum(seen["users"].values())
    if count >= experiment.planned_users:
        return Look(verdict="undecided", why=f"No difference was found with {count:,} users: {told}.", **seen)
    return Look(verdict="running", why=f"{count:,} of {experiment.planned_users:,} users: {told}.", **seen)


def _judge_thompson(experiment: Experiment, arms: dict[str, Arm], seen: dict[str, Any]) -> Look:
    # A slate succeeds where something on it was clicked.
    evidence = {name: _independent(arm.counts["clicked"], arm.counts["slates"]) for name, arm in arms.items()}
    clicks, slates = ({name: each[side] for name, each in evidence.items()} for side in (0, 1))
    least = 0.5 / len(arms) ** 2
    count = sum(seen["users"].values())
    shares = thompson_shares(clicks, slates, seed=count, least=least)
    best = max(shares, key=lambda name: shares[name])
    probability = (shares[best] - least) / (1 - least * len(arms))
    why = f"{best} is the best with probability {probability:.3f}, after {count:,} users."
    if probability >= _SURE and count >= experiment.planned_users:
        verdict: Verdict = "lost" if best == experiment.control else "won"
        return Look(verdict=verdict, winner=None if verdict == "lost" else best, why=why, shares=shares, **seen)
    verdict = "undecided" if count >= 2 * experiment.planned_users else "running"
    return Look(verdict=verdict, why=why, shares=shares, **seen)


def _independent(successes: np.ndarray, trials: np.ndarray) -> tuple[float, float]:
    """So many successes and trials, of these (U,) of users, as would say as much if all were independent (Rao and Scott
    1992).

    A user's slates are alike: where a few users bring many, they say less than their number.
    """
    clicked, slates = float(successes.sum()), float(trials.sum())
    rate = clicked / slates
    values = ratio_values([successes], [trials])[0]
    plain = rate * (1 - rate) / slates
    effect = max(1.0, float(values.var(ddof=1)) / len(values) / plain) if plain > 0 else 1.0
    return clicked / effect, slates / effect


def _judge_interleaving(experiment: Experiment, found: Exposures, at: int) -> Look:
    arm = found.arms[INTERLEAVED]
    control, treatment = experiment.control, next(iter(experiment.treated))
    seen: dict[str, Any] = {"at": at, "users": {INTERLEAVED: len(arm)}, "left_out": found.left_out}
    seen |= {"value": {}, "leads": {}, "limits": {}, "sample_ratio": 1.0}
    if len(arm) < experiment.least_users:
        return Look(verdict="running", why=f"There are {len(arm):,} users of {experiment.least_users:,}.", **seen)
    if not found.named:
        return Look(verdict="running", why=_UNNAMED, **seen)
    above, below = _columns(arm.counts, "preference")
    values = ratio_values([above], [below])[0]
    lead = distance_from_zero(values, planned=experiment.planned_users, alpha=experiment.alpha)
    clicks = {control: float(arm.counts["losses"].sum()), treatment: float(arm.counts["wins"].sum())}
    seen |= {"value": clicks, "leads": {treatment: lead}}
    told = f"the preference for {treatment} is {_told(lead)} of slates, after {len(arm):,} users"
    if lead.low > 0:
        return Look(verdict="won", winner=treatment, why=f"Preferred: {told}.", **seen)
    if lead.high < 0:
        return Look(verdict="lost", why=f"Not preferred: {told}.", **seen)
    verdict: Verdict = "undecided" if len(arm) >= experiment.planned_users else "running"
    return Look(verdict=verdict, why=f"{told[0].upper()}{told[1:]}.", **seen)


def _difference(experiment: Experiment, arms: dict[str, Arm], treated: str, metric: str) -> Difference:
    both = [arms[name] for name in (experiment.control, treated)]
    values = ratio_values(*zip(*(_columns(arm.counts, metric) for arm in both), strict=True))
    if metric not in COSTS and all(_known(arm, metric, before=True) for arm in both):
        before = ratio_values(*zip(*(_columns(arm.before, metric) for arm in both), strict=True))
        values = adjusted(values, before)
    # Of the users of all variants these two have their shares.
    shares = experiment.split.shares
    planned = round(experiment.planned_users * (shares[experiment.control] + shares[treated]))
    return difference(*values, planned=max(2, planned), alpha=experiment.alpha / len(experiment.treated))


def _columns(counts: dict[str, np.ndarray], metric: str) -> tuple[np.ndarray, np.ndarray]:
    above, below = _RATIOS[metric]
    return counts[above], np.ones(len(counts[above])) if below is None else counts[below]


def _known(arm: Arm, metric: str, *, before: bool = False) -> bool:
    _, below = _columns(arm.before if before else arm.counts, metric)
    return bool(below.sum() > 0)


def _mean(arm: Arm, metric: str) -> float:
    above, below = _columns(arm.counts, metric)
    return float(above.sum() / below.sum()) if below.sum() > 0 else 0.0


def _worst(limit: Limit, control: float) -> float:
    return limit.most if limit.metric == "fallback_rate" else limit.most * abs(control)


def _told(lead: Difference) -> str:
    return f"{lead.value:+.4g} [{lead.low:+.4g}, {lead.high:+.4g}]"
