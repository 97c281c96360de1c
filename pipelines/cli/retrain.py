"""The command that closes the loop: `retrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import Json, show
from pipelines.errors import BadInput


def retrain(
    models: Annotated[Path, typer.Option("--models", help="The folder that holds NAME/VERSION and the registry.")],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The model.")],
    work: Annotated[Path, typer.Option("--work", help="Where runs, datasets and reports of retrainings are kept.")],
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="DIR_OR_URL", help="A serving store's folder, or a postgresql:// URL."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="A dataset folder, instead of a store.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="By default the champion's; features and towers are its.")] = None,
    run: Annotated[Path | None, typer.Option(help="The champion's run, where it is not found by itself.")] = None,
    days: Annotated[float | None, typer.Option(help="Before now, whose events are fresh.")] = None,
    replay: Annotated[float | None, typer.Option(help="Older examples for each fresh one, at most.")] = None,
    now: Annotated[
        str | None, typer.Option(help="Until when events count, in ISO 8601; by default the present.")
    ] = None,
    why: Annotated[str, typer.Option(help="What triggered it; kept in the registry.")] = "",
    anew: Annotated[bool, typer.Option("--anew", help="Drop a retraining that was not finished.")] = False,
    as_json: Json = False,
) -> None:
    """Retrain the champion on fresh events; what beats it on the newest becomes a candidate.

    Killed at any moment and started again, it goes on. One at a time: a second ends with exit code 3. A refusal is no
    failure: exit code 0, and "accepted": false.
    """
    import datetime

    try:
        until = None if now is None else datetime.datetime.fromisoformat(now)
    except ValueError:
        raise BadInput(f"--now is a moment such as 2026-01-31T06:00:00+00:00, not {now!r}.") from None
    from pipelines.recipe import Recipe
    from pipelines.retraining import retrain as run_retrain

    result = run_retrain(
        models,
        model,
        work,
        now=until,
        store=store,
        data=data,
        recipe=None if recipe is None else Recipe.load(recipe),
        run=run,
        days=days,
        replay=replay,
        why=why,
        anew=anew,
    )
    show(result.as_dict(), result.lines(), as_json=as_json)
