"""`belfry data ...`: from the world's files to a dataset folder, and what is wrong with it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.options import Json, Name, show
from pipelines.errors import BadInput

if TYPE_CHECKING:
    from pipelines.data.report import ImportReport

app = typer.Typer(no_args_is_help=True, help="Import data and look at it.")
importing = typer.Typer(no_args_is_help=True, help="Turn a source into a dataset folder.")
app.add_typer(importing, name="import")

Source = Annotated[Path, typer.Argument(help="The source's folder.")]
Destination = Annotated[Path, typer.Argument(metavar="DEST", help="The dataset folder to make.")]


def _report(report: ImportReport, destination: Path, as_json: bool) -> None:
    result = {"dataset": str(destination), "report": report.as_dict()}
    show(result, [*report.lines(), f"dataset written to {destination}"], as_json=as_json)


@importing.command()
def mind(source: Source, dest: Destination, name: Name = None, as_json: Json = False) -> None:
    """MIND's official folder: news.tsv and behaviors.tsv."""
    from pipelines.data.sources.mind import import_mind

    _report(import_mind(source, dest, name=name), dest, as_json)


@importing.command()
def movielens(
    source: Source,
    dest: Destination,
    plots: Annotated[Path | None, typer.Option(help="JSON lines with movie_id and plot.")] = None,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """MovieLens 100K's folder: u.data, u.item, u.user."""
    from pipelines.data.sources.movielens import import_movielens

    _report(import_movielens(source, dest, plots=plots, name=name), dest, as_json)


@importing.command()
def table(
    events: Annotated[Path, typer.Argument(help="Events, CSV or Parquet.")],
    dest: Destination,
    items: Annotated[Path | None, typer.Option(help="Items, CSV or Parquet.")] = None,
    users: Annotated[Path | None, typer.Option(help="Users, CSV or Parquet.")] = None,
    columns: Annotated[
        str, typer.Option("--map", help="Columns as ours=theirs,..., such as user_id=visitor,at=time.")
    ] = "",
    kind: Annotated[str, typer.Option(help="What an event is where no column says so.")] = "click",
    language: Annotated[str | None, typer.Option(help="The items' language where no column says so.")] = None,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Any CSV or Parquet table of events, and of items. Without times, the order of the rows is the order."""
    from pipelines.data.sources.table import import_table

    report = import_table(
        events, dest, items=items, users=users, columns=_mapping(columns), kind=kind, language=language, name=name
    )
    _report(report, dest, as_json)


@importing.command()
def newsroom(
    size: Annotated[str, typer.Argument(help="small, medium or large.")],
    dest: Destination,
    seed: Annotated[int, typer.Option(help="Same seed, same newsroom.")] = 17,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """A simulated multilingual news platform whose true click probabilities are known."""
    from pipelines.data.sources.newsroom import import_newsroom

    _report(import_newsroom(size, dest, seed=seed, name=name), dest, as_json)


@app.command()
def audit(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset folder.")],
    recipe: Annotated[Path | None, typer.Option(help="A recipe whose limits (audit) and split are used.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="MOMENT", help="Compare what came before with what came since, such as 2025-03-01."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Also write audit.json and audit.html there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look for what is wrong with a dataset. Exit code 0: it passes, 1: there is an error, 2: it cannot be read."""
    from pipelines.recipe import Recipe

    loaded = Recipe.load(recipe) if recipe else Recipe()
    moment = _moment(since) if since else None
    from pipelines.data.audit import audit as run_audit
    from pipelines.data.dataset import Dataset

    report = run_audit(Dataset.open(dataset), loaded, since=moment, out=out)
    lines = [*report.lines(), *([f"audit written to {out}"] if out else [])]
    show(report.result, lines, as_json=as_json)
    if not report.passed:
        raise typer.Exit(1)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--since takes a moment such as 2025-03-01 or 2025-03-01T06:00Z, not {text!r}.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _mapping(text: str) -> dict[str, str]:
    pairs = [part for part in text.split(",") if part.strip()]
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not (ours and equals and theirs):
            raise BadInput(f"--map takes ours=theirs pairs such as user_id=visitor,at=time, not {pair!r}.")
        if ours in columns:
            raise BadInput(f"--map names {ours} twice.")
        columns[ours] = theirs
    return columns
