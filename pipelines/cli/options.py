"""Options that several commands share, and how a result is printed."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Data = Annotated[Path, typer.Option("--data", help="A dataset folder.")]
OtherData = Annotated[Path | None, typer.Option("--data", help="Another dataset folder than the run's own.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
EngineName = Annotated[str, typer.Option("--engine", help="What prepares the events: duckdb or spark.")]
Master = Annotated[str | None, typer.Option("--master", help="Of Spark, such as spark://host:7077.")]
Name = Annotated[str | None, typer.Option("--name", help="The dataset's name; by default the folder's.")]


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Show that something is happening while TensorFlow is imported, which takes seconds."""
    if "tensorflow" in sys.modules:
        yield
        return
    from pipelines.progress import stages

    with stages("starting", {"importing TensorFlow": 1}) as begin:
        begin("importing TensorFlow")
        yield


def show(result: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Print a result to standard output: JSON for programs, lines for people."""
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False), flush=True)
    else:
        print("\n".join(lines), flush=True)
