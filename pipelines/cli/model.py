"""The commands that ask a trained run, from `evaluate` to `model-server`, and the demo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.cli.options import Data, EngineName, Json, Master, OtherData, Out, RunFolder, show, starting
from pipelines.errors import BadInput


def demo(
    out: Out = Path("demo-run"),
    keep_serving: Annotated[
        bool, typer.Option("--keep-serving", help="Leave the feed up for a browser until Ctrl-C.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the newsroom and of the training.")] = 17,
    as_json: Json = False,
) -> None:
    """Newsroom, training, evaluation, export, serving and one personalised feed, in minutes."""
    from pipelines.demo import demo as run_demo
    from pipelines.demo import feed_lines, wait_for_stop

    with run_demo(out, seed=seed) as result:
        show(result, feed_lines(result), as_json=as_json)
        if keep_serving:
            wait_for_stop(result)


def evaluate(
    run: RunFolder,
    data: OtherData = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the result there, as JSON.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE", help="Where the page goes; by default evaluation.html in RUN, without --data."
        ),
    ] = None,
    engine: EngineName = "duckdb",
    master: Master = None,
    as_json: Json = False,
) -> None:
    """Judge a run beside simple baselines, with 95 % intervals."""
    from pipelines.data.dataset import Dataset
    from pipelines.data.engine import choose_engine

    with starting():
        from pipelines.evaluation import evaluate as run_evaluate
    from pipelines.run import EVALUATION_PAGE, Run

    other = Dataset.open(data) if data else None
    # The run's own folder holds what is said of its own data, where that may be written.
    page = report or (run / EVALUATION_PAGE if data is None and os.access(run, os.W_OK) else None)
    result = run_evaluate(Run.open(run), other, out=out, report=page, engine=choose_engine(engine, master))
    show(result, [*result.lines(), *([f"page written to {page}"] if page else [])], as_json=as_json)


def score(run: RunFolder, data: Data, out: Out, as_json: Json = False) -> None:
    """Write a score for every impression, as TSV: request_id, item_id, score."""
    with starting():
        from pipelines.answers import score as run_score
    from pipelines.data.dataset import Dataset
    from pipelines.run import Run

    rows = run_score(Run.open(run), Dataset.open(data), out)
    show({"rows": rows, "file": str(out)}, [f"{rows:,} scores written to {out}"], as_json=as_json)


def recommend(
    run: RunFolder,
    data: Data,
    out: Out,
    k: Annotated[int, typer.Option(min=1, help="Items a user.")] = 10,
    candidates: Annotated[Path | None, typer.Option(help="Only these items, an id a line.")] = None,
    users: Annotated[Path | None, typer.Option(help="Only these users, an id a line.")] = None,
    as_json: Json = False,
) -> None:
    """Write each user's best items, as TSV: user_id, item_id, rank, score. Seen items are left out."""
    with starting():
        from pipelines.answers import recommend as run_recommend
    from pipelines.data.dataset import Dataset
    from pipelines.run import Run

    rows = run_recommend(Run.open(run), Dataset.open(data), out, k=k, candidates=candidates, users=users)
    show({"rows": rows, "file": str(out)}, [f"{rows:,} recommendations written to {out}"], as_json=as_json)


def explore(
    run: RunFolder,
    data: Data,
    out: Out,
    what: Annotated[str, typer.Option(help="items or users.")] = "items",
    by: Annotated[str, typer.Option(help="entropy, margin or committee.")] = "committee",
    k: Annotated[int, typer.Option(min=1, help="Lines of the list.")] = 100,
    committee: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="A run that votes too; repeat it.")
    ] = None,
    feed: Annotated[int, typer.Option(min=1, help="Items of a user's feed.")] = 10,
    sample: Annotated[int, typer.Option(min=1, help="Users asked about items.")] = 1000,
    most_alike: Annotated[
        float | None, typer.Option("--most-alike", help="Leave out what has a higher cosine to something listed.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 17,
    as_json: Json = False,
) -> None:
    """Write the items or users that a run is least sure of, as TSV: id, score, positives so far, title."""
    from pipelines.data.dataset import Dataset

    with starting():
        from pipelines.exploration import explore as run_explore
    from pipelines.run import Run

    result = run_explore(
        Run.open(run),
        Dataset.open(data),
        out,
        what=what,
        by=by,
        k=k,
        committee=[Run.open(other) for other in committee or []],
        feed=feed,
        sample=sample,
        most_alike=most_alike,
        seed=seed,
    )
    show(result, result.lines(), as_json=as_json)


def embed(
    run: RunFolder,
    out: Out,
    data: OtherData = None,
    what: Annotated[str, typer.Option(help="items or users.")] = "items",
    engine: Annotated[str, typer.Option(help="What computes: local, or spark for items.")] = "local",
    master: Master = None,
    as_json: Json = False,
) -> None:
    """Write the embedding of every item, or of every user with a history, as Parquet: id, embedding."""
    if what not in ("items", "users"):
        raise BadInput(f"--what is items or users, not {what!r}.")
    if engine not in ("local", "spark") or (engine == "spark") == (master is None):
        raise BadInput("--engine is local, or spark with --master URL.")
    if what == "users" and master is not None:
        raise BadInput("users are embedded on this machine: leave --engine out.")
    from pipelines.data.dataset import Dataset
    from pipelines.run import Run

    opened, dataset = Run.open(run), Dataset.open(data) if data else None
    if master is not None:
        from pipelines.embed_spark import embed_on_spark

        rows = embed_on_spark(opened, out, dataset, master=master)
    else:
        from pipelines.embeddings import embed as embed_items
        from pipelines.embeddings import embed_users

        rows = (embed_items if what == "items" else embed_users)(opened, out, dataset)
    show({what: rows, "file": str(out)}, [f"{rows:,} embeddings written to {out}"], as_json=as_json)


def export(
    run: RunFolder,
    to: Annotated[Path, typer.Option("--to", help="The model's folder, such as models/news.")],
    data: OtherData = None,
    index: Annotated[
        Literal["exact", "scann"] | None,
        typer.Option(help="exact, or scann, which needs a server built with it. By default the recipe's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the next numbered version of a model for TF Serving or `belfry model-server`."""
    from pipelines.data.dataset import Dataset
    from pipelines.run import Run

    with starting():
        from pipelines.saved_model import export as run_export

    version = run_export(Run.open(run), to, Dataset.open(data) if data else None, index=index)
    result = {"model": to.name, "version": int(version.name), "folder": str(version)}
    show(result, [f"version {version.name} of {to.name} written to {version}"], as_json=as_json)


def model_server(context: typer.Context) -> None:
    """Serve a model with TensorFlow Serving's own API and flags (see --help)."""
    from serving.model_server import run as serve

    raise typer.Exit(serve(list(context.args)))
