"""The command that plays the whole loop against simulated readers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import Json, show


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command()(simulate)


def simulate(
    out: Annotated[Path, typer.Option(help="A new folder, for the store, the models and the report.")],
    recipe: Annotated[Path | None, typer.Option(help="By default the shipped `simulate`.")] = None,
    days: Annotated[int, typer.Option(min=1, max=300, help="Of traffic.")] = 30,
    warm_up: Annotated[int, typer.Option("--warm-up", min=2, help="Days of a publisher's own policy before.")] = 7,
    size: Annotated[str, typer.Option(help="tiny, small or medium.")] = "small",
    drift: Annotated[float, typer.Option(min=0, help="How far the readers' taste moves, in log-odds.")] = 1.0,
    spoilt_on: Annotated[
        int | None, typer.Option("--spoilt-on", min=0, help="Day on which a bad version is tried; none by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 17,
    as_json: Json = False,
) -> None:
    """Play days of traffic through a real gateway while what readers like moves: monitor, retrain, test, promote.

    Half of a holdout sees the first model for ever, and the report says what the loop is worth beside it.
    """
    from pipelines.recipe import Recipe
    from pipelines.simulation.simulate import Plan
    from pipelines.simulation.simulate import simulate as play

    plan = Plan(days=days, warm_up=warm_up, size=size, drift=drift, spoilt_on=spoilt_on, seed=seed)
    result = play(out, None if recipe is None else Recipe.load(recipe), plan)
    show(result, result.lines(), as_json=as_json)
