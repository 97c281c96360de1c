"""What follows from an experiment: it ends, and the registry promotes or retires the version that was on trial."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.errors import BadInput
from pipelines.registry import Registry
from serving.events import Store
from serving.experiments.declaration import Experiment
from serving.experiments.looking import Look, look
from serving.experiments.records import Record, change, record, records, stop

_SHIFT = 0.01  # of a share, below which Thompson sampling leaves it


@dataclass(frozen=True)
class Conclusion:
    """A look at an experiment and what was done because of it.

    Args:
        version: That was promoted or retired; None for neither.
        done: One sentence.
    """

    name: str
    look: Look
    ended: bool
    version: int | None
    done: str


def conclude(
    store: Store, name: str, now: int, registry: Registry | None = None, model: str | None = None
) -> Conclusion:
    """Look at an experiment, and end it where the evidence has decided.

    With `on_win: promote`, the version behind the winner's label becomes the champion, and one that did not win is
    retired; not where the experiment itself was broken, which says nothing of the version. The registry changes first:
    who is killed in between finds the label gone, and only ends the experiment.

    Args:
        now: Microseconds since 1970.
        registry: Of the folder from which the model is served; without one nothing is promoted or retired.
        model: Its name there.

    Raises:
        BadExperiment: There is no such experiment.
        StoreAway: The database cannot be reached or written.
        BadInput: The experiment promotes, and no registry is given.
    """
    found = record(store, name)
    if not found.is_running:
        raise BadInput(f"{name} is over: {found.why}")
    experiment = found.experiment
    if experiment.on_win == "promote" and (registry is None or model is None):
        raise BadInput(f"{name} promotes the version that wins: give the folder of models and the model's name.")
    seen = look(store, found, now)
    if seen.verdict == "running":
        return Conclusion(name, seen, False, None, _shift(store, experiment, seen))
    version, done = _settle(experiment, seen, registry, model)
    stop(store, name, now, f"{seen.why} {done}".strip(), seen.verdict)
    return Conclusion(name, seen, True, version, done)


def conclude_all(
    store: Store, now: int, registry: Registry | None = None, model: str | None = None
) -> list[Conclusion]:
    """`conclude` for every experiment that runs."""
    running: list[Record] = records(store, running=True)
    return [conclude(store, each.experiment.name, now, registry, model) for each in running]


def _settle(experiment: Experiment, seen: Look, registry: Registry | None, model: str | None) -> tuple[int | None, str]:
    if experiment.on_win != "promote" or registry is None or model is None or seen.verdict == "broken":
        return None, ""
    served = registry.model(model).served
    why = f"experiment {experiment.name}: {seen.why}"
    winner = seen.winner
    # Too few users to say anything is no sign of being as good.
    if seen.verdict == "undecided" and seen.leads and experiment.on_undecided == "promote":
        winner = next((name for name, each in experiment.treated.items() if each.treatment.label in served), None)
    if winner is not None:
        label = experiment.variants[winner].treatment.label
        if label is None or label == "champion" or label not in served:
            return None, "Nothing was promoted: the winner is no version on trial."
        registry.promote(model, served[label], why)
        return served[label], f"Version {served[label]} was promoted."
    tried = {each.treatment.label for each in experiment.treated.values()}
    retired = [served[label] for label in ("canary",) if label in tried and label in served]
    for version in retired:
        registry.retire(model, version, why)
    return (retired[0], f"Version {retired[0]} was retired.") if retired else (None, "")


def _shift(store: Store, experiment: Experiment, seen: Look) -> str:
    """Let Thompson sampling divide the next users."""
    if seen.shares is None:
        return ""
    before = experiment.split.shares
    if max(abs(seen.shares[name] - before[name]) for name in before) < _SHIFT:
        return ""
    variants = {
        name: {"share": seen.shares[name], "treatment": each.treatment.changes}
        for name, each in experiment.variants.items()
    }
    change(store, experiment.name, variants=variants)
    told = ", ".join(f"{name} {share:.0%}" for name, share in seen.shares.items())
    return f"The next users are divided {told}."
