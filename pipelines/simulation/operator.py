"""What happens at night: the day is measured, rules are judged, experiments end, and a model is trained and tried."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.data.sources.newsroom.sizes import DAY
from pipelines.errors import BadInput
from pipelines.experiments import conclude_all
from pipelines.progress import say
from pipelines.registry import Registry
from pipelines.retraining import retrain
from pipelines.retraining.champion import champion_of, champion_version
from pipelines.run import Run
from pipelines.saved_model import export
from pipelines.simulation.spoil import spoil
from serving.events import Store
from serving.experiments.declaration import Experiment, Limit
from serving.experiments.records import list_experiments, start_experiment
from serving.monitoring import Fingerprint, Observation, Rule, Rules, evaluate_rules, observe
from serving.monitoring.fingerprint import IN_VERSION

FROZEN, HOLDOUT = "frozen", "holdout"
_MICRO = 1_000_000

# A newsroom's days are alike but for what people want.
RULES = Rules(
    rules=(
        Rule(name="clicks-fall", metric="ctr_change", below=-0.1, clears_at=-0.05, sure=True, action="retrain"),
        Rule(name="drift-lasts", metric="drifting", above=0, windows=2, cool_down_hours=72, action="retrain"),
        Rule(name="model-age", metric="model_age_hours", above=5 * 24, cool_down_hours=48, action="retrain"),
        Rule(name="fallbacks", metric="fallback_rate", above=0.05, sure=True),
    )
)


@dataclass
class Night:
    """What was seen and done after a day; for the report."""

    day: int
    seen: dict[str, Any] = field(default_factory=dict)
    drifted: list[str] = field(default_factory=list)
    fired: list[dict[str, Any]] = field(default_factory=list)
    retrained: dict[str, Any] | None = None
    experiments: list[dict[str, Any]] = field(default_factory=list)
    started: str | None = None
    champion: int | None = None


class Operator:
    """Runs the loop of a model as a person would who is never tired: everything by the public steps.

    A part of the readers, `holdout`, is in an experiment that never ends: half of them get the first version for ever,
    the other half whatever is champion. The others are who candidates are tried on.

    Args:
        models: The folder of the registry.
        name: The model.
        work: Where retrainings keep their files.
        holdout: Share of the readers.
        canary: Share of the others that a candidate gets.
        trial_hours: An experiment's longest time.
    """

    def __init__(
        self,
        store: Store,
        where: str,
        models: Path,
        name: str,
        work: Path,
        *,
        holdout: float,
        canary: float,
        trial_hours: float,
        rules: Rules = RULES,
        seed: int = 17,
    ) -> None:
        self._store, self._where, self._models, self._name, self._work = store, where, models, name, work
        self._holdout, self._canary, self._trial_hours = holdout, canary, trial_hours
        self._rules, self._seed = rules, seed
        self.registry = Registry(models)

    def begin(self, now: int) -> None:
        """The first version is frozen for the holdout, which begins at `now` (seconds since 1970)."""
        champion = self.registry.model(self._name).holder("champion")
        assert champion is not None
        self.registry.pin(self._name, FROZEN, champion, "what is gained by the loop is measured against it")
        holdout = Experiment.read(
            {
                "name": HOLDOUT,
                "end": self._holdout,
                "variants": {
                    "control": {"share": 0.5, "treatment": {"label": FROZEN}},
                    "loop": {"share": 0.5},
                },
                "planned_users": 100_000_000,
                "longest_hours": 1e6,
                "guardrails": [],
                "before_hours": 0,
            }
        )
        start_experiment(self._store, holdout, now * _MICRO)

    def after(self, day: int, begin: int) -> Night:
        """Work through the day that began at `begin` (seconds since 1970) and is over."""
        night, now = Night(day), (begin + DAY) * _MICRO
        seen = observe(
            self._store,
            begin * _MICRO,
            now,
            fingerprint=lambda name, version: Fingerprint.load(self._models / name / str(version) / IN_VERSION),
            model=self._name,
            lag_seconds=0,
        )
        night.seen = _numbers(seen)
        night.drifted = [each.reason for each in seen.drifted]
        for each in conclude_all(self._store, now, self.registry, self._name):
            found = {"name": each.name, "verdict": each.look.verdict, "why": each.look.why, "done": each.done}
            night.experiments.append(found | {"users": each.look.users, "value": each.look.value})
            if each.ended:
                say(f"  {each.name}: {each.look.verdict}. {each.look.why} {each.done}")
        fired = evaluate_rules(self._store, self._rules, seen, now)
        night.fired = [each._asdict() for each in fired]
        wanted = [each for each in fired if each.action == "retrain" and each.state == "raised"]
        if wanted and not self.is_trying:
            say(f"  {wanted[0].rule}: {wanted[0].reason}")
            night.retrained = self._retrain(wanted[0].reason, now, night)
        night.champion = self.registry.model(self._name).holder("champion")
        return night

    def try_spoilt(self, now: int, scratch: Path) -> int:
        """Somebody puts a version that learned nothing past the gate, at `now` (seconds since 1970): its number."""
        champion = champion_of(self._models, self._name, self._work, champion_version(self._models, self._name))
        spoilt = Run.open(spoil(champion.run.folder, scratch / "spoilt", seed=self._seed))
        version = int(export(spoilt, self._models / self._name).name)
        self.registry.add(self._name, version, "by somebody in a hurry")
        self._try(version, now * _MICRO)
        return version

    @property
    def is_trying(self) -> bool:
        """Whether a version is on trial: there is one canary."""
        return any(each.experiment.name != HOLDOUT for each in list_experiments(self._store, running=True))

    def _retrain(self, why: str, now: int, night: Night) -> dict[str, Any]:
        at = datetime.fromtimestamp(now / _MICRO, UTC)
        try:
            found = retrain(self._models, self._name, self._work, now=at, store=self._where, why=why)
        except BadInput as error:
            # Such as too few events since the champion was trained: the next night is another.
            say(f"    not retrained: {error}")
            return {"accepted": False, "version": None, "why": str(error)}
        for line in found.lines():
            say(f"    {line}")
        if found.accepted and found.version is not None:
            night.started = self._try(found.version, now)
        return {"accepted": found.accepted, "version": found.version, "why": found.verdict.why}

    def _try(self, version: int, now: int) -> str:
        self.registry.try_out(self._name, version, "an experiment is to say whether it is better")
        trial = Experiment(
            name=f"version-{version}",
            variants=_variants(self._canary),
            start=self._holdout,
            guardrails=[Limit(metric="fallback_rate", most=0.05)],
            planned_users=2_000,
            least_users=20,
            longest_hours=self._trial_hours,
            before_hours=72,
            on_win="promote",
            on_undecided="promote",
        )
        start_experiment(self._store, trial, now)
        return trial.name


def _variants(share: float) -> Any:
    return {"control": {"share": 1 - share}, "canary": {"share": share, "treatment": {"label": "canary"}}}


def _numbers(seen: Observation) -> dict[str, Any]:
    """The measures of all traffic and of each variant, by name."""
    return {
        f"{each.variant}/{each.metric}" if each.variant else each.metric: [each.value, each.low, each.high]
        for each in seen.measures
        if not each.slice
    }
