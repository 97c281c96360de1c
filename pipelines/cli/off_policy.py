"""The command that says what a version would have earned."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.events import StoreOption
from pipelines.cli.options import Json, show
from pipelines.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command("off-policy")(off_policy)


def off_policy(
    version: Annotated[Path, typer.Argument(metavar="MODELS/NAME/VERSION", help="The candidate.")],
    store: StoreOption,
    days: Annotated[float, typer.Option(min=0, help="How far to look back.")] = 7.0,
    most: Annotated[int, typer.Option(min=1, help="Answers to look at.")] = 5_000,
    category_share: Annotated[float, typer.Option(min=0.01, max=1, help="As the gateway has it.")] = 0.5,
    as_json: Json = False,
) -> None:
    """Estimate what a version would have earned, before it meets a user.

    It needs answers that were left to chance in part: serve with BELFRY_EXPLORE=0.2, for example.
    """
    from pipelines.off_policy import estimate_off_policy
    from serving.events import Store, StoreError

    now = time.time_ns() // 1000
    try:
        with Store(store, create=False) as opened:
            start = now - round(days * 86_400_000_000)
            found = estimate_off_policy(opened, version, start, now, most=most, category_share=category_share)
    except StoreError as error:
        raise BadInput(str(error)) from None
    show(found.as_dict(), found.lines(), as_json=as_json)
