"""What follows from an experiment: it ends, and the registry promotes or retires the version that was on trial."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.errors import BadInput
from pipelines.registry import Registry
from serving.events import Store
from serving.experiments.declaration import BadExperiment, Experiment
from serving.experiments.looking import Look, look
from serving.experiments.records import Record, change_experiment, list_experiments, read_experiment, stop_experiment

_OWN = 0.95  # of a variant's slates, that a version must have answered: a label moves a little later than one says
_SHIFT = 0.01  # of a share, below which Thompson sampling leaves it


@dataclass(frozen=True)
class Conclusion:
    """A look at an experiment and what was done because of it.

    Args:
        name: The experiment's.
        look: What was seen.
        ended: Whether it has ended by this.
        version: That was promoted, or else retired; None for neither.
        done: One sentence.

    Example:
        >>> from pipelines import conclude
        >>> from serving import Experiment, Store, start_experiment, wall_clock
        >>> shares = {"control": {"share": 0.5}, "wider": {"share": 0.5, "treatment": {"category_share": 0.8}}}
        >>> with Store("store-of-a-conclusion") as store:
        ...     start_experiment(store, Experiment(name="wider", variants=shares), wall_clock())
        ...     found = conclude(store, "wider", wall_clock())
        >>> found.look.verdict, found.version
        ('running', None)
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
    retired; not where the experiment itself was broken, which says nothing of the version, and not where another
    version answered for the label meanwhile, which nobody has tried. (Of interleaved feeds slates name the control's
    version alone: there it is not looked for.) The registry changes first: who is killed in between finds the label
    gone, and only ends the experiment.

    Args:
        store: An open store.
        name: The experiment's.
        now: Microseconds since 1970.
        registry: Of the folder from which the model is served; without one nothing is promoted or retired.
        model: Its name there.

    Raises:
        BadExperiment: There is no such experiment.
        StoreAway: The database cannot be reached or written.
        BadInput: It is over, or it promotes and no registry that knows the model is given.

    Example:
        >>> from pipelines import conclude
        >>> from serving import Experiment, Store, start_experiment, wall_clock
        >>> shares = {"control": {"share": 0.5}, "wider": {"share": 0.5, "treatment": {"category_share": 0.8}}}
        >>> with Store("store-to-conclude") as store:
        ...     start_experiment(store, Experiment(name="wider", variants=shares), wall_clock())
        ...     conclude(store, "wider", wall_clock()).ended  # nobody has seen anything yet
        False
    """
    found = read_experiment(store, name)
    if not found.is_running:
        raise BadInput(f"{name} is over: {found.why}")
    experiment = found.experiment
    if experiment.on_win == "promote" and (registry is None or model is None):
        raise BadInput(f"{name} promotes the version that wins: give the folder of models and the model's name.")
    if experiment.on_win == "promote" and registry is not None and model not in registry.names():
        raise BadInput(f"{name} promotes the version that wins, and the registry in {registry.folder} has no {model}.")
    seen = look(store, found, now)
    if seen.verdict == "running":
        return Conclusion(name, seen, False, None, _shift(store, experiment, seen))
    version, done = _settle(experiment, seen, registry, model)
    stop_experiment(store, name, now, f"{seen.why} {done}".strip(), seen.verdict)
    return Conclusion(name, seen, True, version, done)


def conclude_all(
    store: Store, now: int, registry: Registry | None = None, model: str | None = None
) -> list[Conclusion]:
    """`conclude` for every experiment that runs; one that cannot be concluded does not keep the others from it.

    Raises:
        StoreAway: The database cannot be reached or written.
        BadInput: Of the first that could not be concluded, after all others were.

    Args:
        store: An open store.
        now: Microseconds since 1970.
        registry, model: As for `conclude`.

    Example:
        >>> from pipelines import conclude_all
        >>> from serving import Store, wall_clock
        >>> with Store("store-without-experiments") as store:
        ...     conclude_all(store, wall_clock())
        []
    """
    running: list[Record] = list_experiments(store, running=True)
    found: list[Conclusion] = []
    failed: BadInput | None = None
    for each in running:
        try:
            found.append(conclude(store, each.experiment.name, now, registry, model))
        except (BadInput, BadExperiment) as error:
            # Somebody else may have ended it meanwhile.
            if read_experiment(store, each.experiment.name).is_running:
                failed = failed or BadInput(str(error))
    if failed is not None:
        raise failed
    return found


def _settle(experiment: Experiment, seen: Look, registry: Registry | None, model: str | None) -> tuple[int | None, str]:
    if experiment.on_win != "promote" or registry is None or model is None or seen.verdict == "broken":
        return None, ""
    served = registry.model(model).served
    why = f"experiment {experiment.name}: {seen.why}"
    winner = seen.winner
    # Too few users to say anything is no sign of being as good.
    if seen.verdict == "undecided" and seen.leads and experiment.on_undecided == "promote":
        winner = next((name for name, each in experiment.treated.items() if each.treatment.label in served), None)
    version, done = None, ""
    if winner is not None:
        version, done = _promote(experiment, seen, winner, registry, model, why)
        if version is None and experiment.variants[winner].treatment.label == "canary":
            return None, done
    tried = [name for name, each in experiment.treated.items() if each.treatment.label == "canary" and name != winner]
    canary = registry.model(model).holder("canary")
    answered = seen.versions.get(tried[0]) if tried else None
    # One that never answered did not win either; one that came later was not on trial.
    if tried and canary is not None and (not answered or str(canary) in answered):
        registry.retire(model, canary, why)
        return version or canary, f"{done} Version {canary} was retired.".strip()
    return version, done


def _promote(
    experiment: Experiment, seen: Look, winner: str, registry: Registry, model: str, why: str
) -> tuple[int | None, str]:
    """Make the winner's version the champion, if it is the one that was tried."""
    found, label = registry.model(model), experiment.variants[winner].treatment.label
    version = found.served.get(label or "")
    if label is None or version is None or found.states.get(version) not in ("candidate", "canary"):
        return None, "Nothing was promoted: the winner is no version on trial."
    answered = seen.versions.get(winner, {})
    own, slates = answered.get(str(version), 0), sum(answered.values())
    if experiment.method != "interleaving" and own <= _OWN * slates:
        told = ", ".join(answered) or "none"
        return None, f"Nothing was promoted: {label} is version {version}, and {winner} was answered by version {told}."
    registry.promote(model, version, why)
    return version, f"Version {version} was promoted."


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
    change_experiment(store, experiment.name, variants=variants)
    told = ", ".join(f"{name} {share:.0%}" for name, share in seen.shares.items())
    return f"The next users are divided {told}."
