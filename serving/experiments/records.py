"""Experiments in the store: started, ramped up, looked at, stopped."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from serving.events import Store
from serving.events.tables import EXPERIMENTS, LOOKS
from serving.experiments.declaration import BadExperiment, Experiment, NoExperiment, conflict


class Record(NamedTuple):
    """An experiment and what became of it. Times are microseconds since 1970."""

    experiment: Experiment
    state: str
    started_at: int
    stopped_at: int | None
    verdict: str | None
    why: str | None

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    def as_json(self) -> dict[str, Any]:
        return self._asdict() | {"experiment": self.experiment.model_dump(mode="json")}


def start_experiment(store: Store, experiment: Experiment, at: int) -> None:
    """Start an experiment; gateways take it up when they next look.

    Raises:
        BadExperiment: Its name was used before, or it cannot run beside those that are running.
        StoreAway: The database cannot be reached or written.

    Args:
        store: An open store.
        experiment: What it is.
        at: Now, in microseconds since 1970.

    Example:
        >>> from serving import Experiment, Store, list_experiments, start_experiment, wall_clock
        >>> shares = {"control": {"share": 0.5}, "wider": {"share": 0.5, "treatment": {"category_share": 0.8}}}
        >>> with Store("store-of-a-start") as store:
        ...     start_experiment(store, Experiment(name="wider", variants=shares), wall_clock())
        ...     [each.experiment.name for each in list_experiments(store, running=True)]
        ['wider']
    """
    with store.writing() as connection:
        # First, so that two that start at once see one another.
        store.count(connection, "experiments")
        records = _read(connection)
        if any(each.experiment.name == experiment.name for each in records):
            raise BadExperiment(
                f"There was an experiment {experiment.name} before: its users would be divided as they were then. "
                "Choose another name."
            )
        why_not = conflict(experiment, [each.experiment for each in records if each.is_running])
        if why_not is not None:
            raise BadExperiment(f"{why_not}.")
        row = {"name": experiment.name, "declaration": experiment.model_dump_json(), "state": "running"}
        connection.execute(EXPERIMENTS.insert(), row | {"started_at": at})


def change_experiment(store: Store, name: str, **values: Any) -> Experiment:
    """Change what a running experiment may change: `ramp` upwards, and the shares by which Thompson sampling divides.

    Raises:
        BadExperiment: There is none, it is over, or the change cannot be.
        StoreAway: The database cannot be reached or written.

    Args:
        store: An open store.
        name: The experiment's.
        values: Its fields with their new values.

    Example:
        >>> from serving import Experiment, Store, change_experiment, start_experiment, wall_clock
        >>> shares = {"control": {"share": 0.5}, "wider": {"share": 0.5, "treatment": {"category_share": 0.8}}}
        >>> with Store("store-of-a-change") as store:
        ...     start_experiment(store, Experiment(name="wider", variants=shares, ramp=0.1), wall_clock())
        ...     change_experiment(store, "wider", ramp=0.5).ramp
        0.5
    """
    with store.writing() as connection:
        store.count(connection, "experiments")
        found = _running(connection, name)
        if values.get("ramp", 1.0) < found.ramp:
            raise BadExperiment(f"{name} is at {found.ramp:.0%} of its users: who was in stays in, so it only grows.")
        changed = Experiment.read(found.model_dump() | values)
        updating = EXPERIMENTS.update().where(EXPERIMENTS.c.name == name)
        connection.execute(updating.values(declaration=changed.model_dump_json()))
        return changed


def stop_experiment(store: Store, name: str, at: int, why: str, verdict: str = "stopped") -> bool:
    """End an experiment: everybody is served as if there were none. Whether it was this call that ended it.

    Raises:
        NoExperiment: There is no such experiment.
        StoreAway: The database cannot be reached or written.

    Args:
        store: An open store.
        name: The experiment's.
        at: Now, in microseconds since 1970.
        why: Kept with it.
        verdict: Kept with it.

    Example:
        >>> from serving import Experiment, Store, start_experiment, stop_experiment, wall_clock
        >>> shares = {"control": {"share": 0.5}, "wider": {"share": 0.5, "treatment": {"category_share": 0.8}}}
        >>> with Store("store-of-a-stop") as store:
        ...     start_experiment(store, Experiment(name="wider", variants=shares), wall_clock())
        ...     stop_experiment(store, "wider", wall_clock(), "seen enough")
        True
    """
    with store.writing() as connection:
        store.count(connection, "experiments")
        if read_one(connection, name) is None:
            raise NoExperiment(f"There is no experiment {name}.")
        stopping = EXPERIMENTS.update().where(EXPERIMENTS.c.name == name, EXPERIMENTS.c.state == "running")
        values = {"state": "stopped", "stopped_at": at, "verdict": verdict, "why": why}
        return connection.execute(stopping.values(**values)).rowcount > 0


def list_experiments(store: Store, *, running: bool = False) -> list[Record]:
    """All experiments, or those that are running, by when they started.

    Raises:
        StoreAway: The database cannot be reached.

    Args:
        store: An open store.
        running: Only those that are.

    Returns:
        Each with `experiment`, `state`, `started_at`, `stopped_at` (microseconds since 1970), `verdict` and `why`.

    Example:
        >>> from serving import Store, list_experiments
        >>> with Store("store-without-experiments") as store:
        ...     list_experiments(store)
        []
    """
    with store.reading() as connection:
        return [each for each in _read(connection) if each.is_running or not running]


def read_experiment(store: Store, name: str) -> Record:
    """One experiment.

    Raises:
        NoExperiment: There is no such experiment.
        StoreAway: The database cannot be reached.

    Args:
        store: An open store.
        name: The experiment's.

    Returns:
        Its `experiment`, `state`, `started_at`, `stopped_at` (microseconds since 1970), `verdict` and `why`.

    Example:
        >>> from serving import Experiment, Store, read_experiment, start_experiment, wall_clock
        >>> shares = {"control": {"share": 0.5}, "wider": {"share": 0.5, "treatment": {"category_share": 0.8}}}
        >>> with Store("store-of-a-record") as store:
        ...     start_experiment(store, Experiment(name="wider", variants=shares), wall_clock())
        ...     read_experiment(store, "wider").is_running
        True
    """
    with store.reading() as connection:
        found = read_one(connection, name)
    if found is None:
        raise NoExperiment(f"There is no experiment {name}.")
    return found


def add_look(store: Store, name: str, at: int, evidence: dict[str, Any]) -> None:
    """Keep what was seen; a second look at the same moment changes nothing."""
    from serving.events.log import ignoring_known

    row = {"experiment": name, "at": at, "evidence": orjson.dumps(evidence).decode()}
    with store.writing() as connection:
        connection.execute(ignoring_known(store, LOOKS), row)


def list_looks(store: Store, name: str) -> list[tuple[int, dict[str, Any]]]:
    """When somebody looked, and what they saw, the earliest first.

    Args:
        store: An open store.
        name: The experiment's.

    Returns:
        Pairs of microseconds since 1970 and `Look.as_json()`.

    Raises:
        StoreAway: The database cannot be reached.

    Example:
        >>> from serving import Experiment, Store, list_looks, look, read_experiment, start_experiment, wall_clock
        >>> shares = {"control": {"share": 0.5}, "wider": {"share": 0.5, "treatment": {"category_share": 0.8}}}
        >>> with Store("store-of-looks") as store:
        ...     start_experiment(store, Experiment(name="wider", variants=shares), wall_clock())
        ...     found = look(store, read_experiment(store, "wider"), wall_clock())
        ...     [seen["verdict"] for at, seen in list_looks(store, "wider")]
        ['running']
    """
    query = sa.select(LOOKS.c.at, LOOKS.c.evidence).where(LOOKS.c.experiment == name).order_by(LOOKS.c.at)
    with store.reading() as connection:
        return [(at, orjson.loads(evidence)) for at, evidence in connection.execute(query)]


def read_one(connection: sa.Connection, name: str) -> Record | None:
    """The record of that name, if there is one."""
    return next((each for each in _read(connection, EXPERIMENTS.c.name == name)), None)


def _running(connection: sa.Connection, name: str) -> Experiment:
    found = read_one(connection, name)
    if found is None:
        raise NoExperiment(f"There is no experiment {name}.")
    if not found.is_running:
        raise BadExperiment(f"{name} is over: {found.why}")
    return found.experiment


def _read(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> list[Record]:
    query = sa.select(EXPERIMENTS).where(*where).order_by(EXPERIMENTS.c.started_at, EXPERIMENTS.c.name)
    return [
        Record(
            Experiment.read(orjson.loads(row["declaration"])),
            *(row[name] for name in ("state", "started_at", "stopped_at", "verdict", "why")),
        )
        for row in connection.execute(query).mappings()
    ]
