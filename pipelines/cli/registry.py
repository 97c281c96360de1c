"""The commands that say which version of a model serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import Json, show

app = typer.Typer(no_args_is_help=True, help="Which versions of a model are candidate, canary and champion.")

Models = Annotated[Path, typer.Argument(metavar="MODELS", help="The folder that holds NAME/VERSION.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model.")]
Version = Annotated[int, typer.Argument(min=0, help="Its version.")]
Why = Annotated[str, typer.Option(help="Kept in the history.")]


def register(root: typer.Typer) -> None:
    """Add the commands to the root."""
    root.add_typer(app, name="registry")
    root.command()(rollback)


@app.command("show")
def show_(models: Models, as_json: Json = False) -> None:
    """Say the state of every version, and how it came to it."""
    import datetime

    from pipelines.registry import Change, Pin, Registry

    registry = Registry(models)
    found = {name: registry.model(name) for name in registry.names()}
    lines = []
    for name, model in found.items():
        states = ", ".join(f"{version} {state}" for version, state in sorted(model.states.items()))
        lines.append(f"{name}: {states}")
        told: list[Change | Pin] = [*model.history, *model.pin_history]
        for each in sorted(told, key=lambda each: each.at):
            at = datetime.datetime.fromtimestamp(each.at, datetime.UTC)
            what = each.state if isinstance(each, Change) else each.told
            version = "" if each.version is None else each.version
            lines.append(f"  {at:%Y-%m-%d %H:%M:%S}  {version:>4} {what:<10} {each.why}")
    result = {
        name: {
            "states": model.states,
            "served": model.served,
            "pins": model.pins,
            "history": [each.model_dump() for each in model.history],
            "pin_history": [each.model_dump() for each in model.pin_history],
        }
        for name, model in found.items()
    }
    show(result, lines or [f"{models} has no version in its registry: belfry registry add"], as_json=as_json)


@app.command()
def add(models: Models, name: Name, version: Version, why: Why = "", as_json: Json = False) -> None:
    """Make an exported version a candidate."""
    _change(models, name, version, why, "add", as_json)


@app.command()
def canary(models: Models, name: Name, version: Version, why: Why = "", as_json: Json = False) -> None:
    """Make a candidate the canary: it is served beside the champion, under the label canary."""
    _change(models, name, version, why, "try_out", as_json)


@app.command()
def promote(models: Models, name: Name, version: Version, why: Why = "", as_json: Json = False) -> None:
    """Make a candidate or the canary the champion."""
    _change(models, name, version, why, "promote", as_json)


@app.command()
def retire(models: Models, name: Name, version: Version, why: Why = "", as_json: Json = False) -> None:
    """Take out a candidate or the canary."""
    _change(models, name, version, why, "retire", as_json)


@app.command()
def pin(
    models: Models,
    name: Name,
    version: Version,
    label: Annotated[str, typer.Option(help="Under which it is served, such as frozen.")],
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Keep a version loaded under a further label, whatever becomes of it: a long-term holdout."""
    from pipelines.registry import Registry

    Registry(models).pin(name, label, version, why)
    line = f"version {version} of {name} is pinned as {label}"
    show({"model": name, "version": version, "label": label}, [line], as_json=as_json)


@app.command()
def unpin(
    models: Models,
    name: Name,
    label: Annotated[str, typer.Option(help="The label to take away.")],
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Take a label away that `pin` gave."""
    from pipelines.registry import Registry

    version = Registry(models).unpin(name, label, why)
    line = f"version {version} of {name} is no longer pinned as {label}"
    show({"model": name, "version": version, "label": label}, [line], as_json=as_json)


@app.command("serve-at")
def serve_at(
    models: Models,
    path: Annotated[str, typer.Argument(help="Where the model server sees the folder, such as /models.")],
    as_json: Json = False,
) -> None:
    """Say where a model server in a container sees the folder."""
    from pipelines.registry import CONFIG, Registry

    Registry(models).serve_at(path)
    show({"config": str(models / CONFIG), "served_at": path}, [f"{models / CONFIG} names {path}"], as_json=as_json)


def rollback(
    models: Models,
    name: Name,
    to: Annotated[
        int | None, typer.Option(min=0, help="Another version that was champion once; the one before by default.")
    ] = None,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Make the champion before the champion again; servers that poll the config follow within their poll."""
    from pipelines.registry import Registry

    version = Registry(models).roll_back(name, why, to)
    show({"model": name, "champion": version}, [f"version {version} of {name} is the champion again"], as_json=as_json)


def _change(models: Path, name: str, version: int, why: str, what: str, as_json: bool) -> None:
    from pipelines.registry import Registry

    registry = Registry(models)
    change: Callable[[str, int, str], None] = getattr(registry, what)
    change(name, version, why)
    state = registry.model(name).states[version]
    show(
        {"model": name, "version": version, "state": state}, [f"version {version} of {name}: {state}"], as_json=as_json
    )
