"""`belfry events ...`: between a store and dataset folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import Json, Name, Out, show

app = typer.Typer(no_args_is_help=True, help="Move events between a store and dataset folders.")

StoreOption = Annotated[
    str,
    typer.Option("--store", envvar="BELFRY_STORE_URL", metavar="DIR_OR_URL", help="A folder, or a postgresql:// URL."),
]


@app.command()
def export(store: StoreOption, out: Out, name: Name = None, as_json: Json = False) -> None:
    """Write a store's items, events and slates as a dataset that `belfry train` takes."""
    from pipelines.data.sources.store import import_store

    report = import_store(store, out, name=name)
    result = {"dataset": str(out), "report": report.as_dict()}
    show(result, [*report.lines(), f"dataset written to {out}"], as_json=as_json)


@app.command("import")
def import_dataset(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset folder.")],
    store: StoreOption,
    as_json: Json = False,
) -> None:
    """Put a dataset's items and events into a store. Doing it again adds nothing."""
    from pipelines.data.dataset import Dataset
    from pipelines.store_filling import fill_store

    done = fill_store(Dataset.open(dataset), store)
    show(done, done.lines(), as_json=as_json)
