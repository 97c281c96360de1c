"""The commands that start, watch and end experiments."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.events import StoreOption
from pipelines.cli.options import Json, show
from pipelines.errors import BadInput

if TYPE_CHECKING:
    from serving.events import Store
    from serving.experiments.records import Record

app = typer.Typer(no_args_is_help=True, help="A/B tests, bandits and interleaving on a store's users.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment.")]


def register(root: typer.Typer) -> None:
    """Add the commands to the root."""
    root.add_typer(app, name="experiment")


@app.command()
def start(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What it is, in YAML or JSON; see docs/experiments.md.")],
    store: StoreOption,
    as_json: Json = False,
) -> None:
    """Start an experiment; gateways take it up within half a second."""
    from serving.experiments import records
    from serving.experiments.declaration import Experiment

    with _opened(store) as opened:
        experiment = Experiment.load(file)
        records.start_experiment(opened, experiment, _now())
    told = ", ".join(f"{name} {each.share:.0%}" for name, each in experiment.variants.items())
    show(experiment.model_dump(mode="json"), [f"{experiment.name} runs: {told}"], as_json=as_json)


@app.command("list")
def list_(store: StoreOption, as_json: Json = False) -> None:
    """Say which experiments there are and were."""
    from serving.experiments import records

    with _opened(store) as opened:
        found = records.list_experiments(opened)
    lines = [line for each in found for line in _lines(each)]
    show({"experiments": [each.as_json() for each in found]}, lines or ["no experiment"], as_json=as_json)


@app.command("show")
def show_(name: Name, store: StoreOption, as_json: Json = False) -> None:
    """Say what an experiment is, and what was seen at each look."""
    from serving.experiments import records

    with _opened(store) as opened:
        found, looks = records.read_experiment(opened, name), records.list_looks(opened, name)
    lines = [*_lines(found), *(f"  {_time(at)}  {seen['verdict']:<10} {seen['why']}" for at, seen in looks)]
    show(found.as_json() | {"looks": [seen for _, seen in looks]}, lines, as_json=as_json)


@app.command()
def look(
    store: StoreOption,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One experiment; all by default.")] = None,
    models: Annotated[Path | None, typer.Option(help="The folder of models, whose registry promotes.")] = None,
    model: Annotated[str | None, typer.Option(envvar="BELFRY_MODEL", help="The model's name there.")] = None,
    watch: Annotated[float, typer.Option(min=0, help="Look again after so many seconds, until none runs.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Look at the evidence, end what is decided, and promote or retire the version that was on trial.

    Looking often does no harm: the test stays valid at every look. Nothing ends unless somebody looks. With --watch, a
    store that is away for a while is asked again.
    """
    from pipelines.experiments import conclude, conclude_all
    from pipelines.progress import say
    from pipelines.registry import Registry
    from pipelines.stopping import stop_on_signals
    from serving.events import StoreAway
    from serving.experiments import records

    registry = None if models is None else Registry(models)
    with _opened(store) as opened, stop_on_signals() as stop:
        looked = False
        while not stop.is_set():
            now = _now()
            try:
                if name is None:
                    found = conclude_all(opened, now, registry, model)
                elif looked and not records.read_experiment(opened, name).is_running:
                    found = []  # somebody else has ended it
                else:
                    found = [conclude(opened, name, now, registry, model)]
            except StoreAway as error:
                if not watch:
                    raise
                say(f"not looked: {error}")
                stop.wait(watch)
                continue
            looked = True
            result: dict[str, Any] = {
                "experiments": [
                    each.look.as_json() | {"name": each.name, "ended": each.ended, "done": each.done} for each in found
                ]
            }
            lines = [f"{each.name}: {each.look.verdict}. {each.look.why} {each.done}".rstrip() for each in found]
            show(result, lines or ["no experiment runs"], as_json=as_json)
            if not watch or all(each.ended for each in found):
                return
            stop.wait(watch)


@app.command()
def ramp(
    name: Name,
    share: Annotated[float, typer.Argument(min=0, max=1, help="Of its range, that is in from now on.")],
    store: StoreOption,
    as_json: Json = False,
) -> None:
    """Let more users into an experiment."""
    from serving.experiments import records

    with _opened(store) as opened:
        changed = records.change_experiment(opened, name, ramp=share)
    show({"name": name, "ramp": changed.ramp}, [f"{name}: {changed.ramp:.0%} of its users are in"], as_json=as_json)


@app.command()
def stop(
    name: Name,
    store: StoreOption,
    why: Annotated[str, typer.Option(help="Kept with it.")] = "stopped by hand",
    as_json: Json = False,
) -> None:
    """End an experiment; everybody is served as if there were none."""
    from serving.experiments import records

    with _opened(store) as opened:
        was = records.stop_experiment(opened, name, _now(), why)
        found = records.read_experiment(opened, name)
    lines = [f"{name} is over" if was else f"{name} was over before: {found.why}"]
    labels = sorted({each.treatment.label for each in found.experiment.treated.values() if each.treatment.label})
    if was and found.experiment.on_win == "promote":
        lines.append(f"{', '.join(labels)} is still served: belfry registry promote, retire or unpin")
    show(found.as_json(), lines, as_json=as_json)


@contextmanager
def _opened(where: str) -> Iterator[Store]:
    from serving.events import Store, StoreError
    from serving.experiments.declaration import BadExperiment

    try:
        with Store(where, create=False) as store:
            yield store
    except (StoreError, BadExperiment) as error:
        raise BadInput(str(error)) from None


def _lines(record: Record) -> list[str]:
    experiment = record.experiment
    told = ", ".join(f"{name} {each.share:.0%}" for name, each in experiment.variants.items())
    ended = "" if record.is_running else f" until {_time(record.stopped_at or 0)}, {record.verdict}: {record.why}"
    about = f"{experiment.method}, {experiment.metric}, ramp {experiment.ramp:.0%}"
    return [f"{experiment.name}: {record.state} since {_time(record.started_at)}{ended} ({about}; {told})"]


def _time(microseconds: int) -> str:
    import datetime

    return f"{datetime.datetime.fromtimestamp(microseconds / 1e6, datetime.UTC):%Y-%m-%d %H:%M:%S}"


def _now() -> int:
    return time.time_ns() // 1000
