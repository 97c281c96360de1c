"""The commands from a dataset to answers, from `pretrain` to `model-server`, and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.options import Data, EngineName, Json, Master, OtherData, RunFolder, show
from pipelines.errors import BadInput

Out = Annotated[Path, typer.Option("--out", help="Where to write.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    for command in (demo, pretrain, train, tune, adapt, ablate, evaluate, score, recommend, explore, embed, export):
        app.command()(command)
    # TF Serving's own flags are not Typer's business: they pass through as they are, --help included.
    raw = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command("model-server", context_settings=raw)(model_server)


def demo(
    out: Out = Path("demo-run"),
    keep_serving: Annotated[bool, typer.Option("--keep-serving", help="Stay up until Ctrl-C.")] = False,
    seed: Annotated[int, typer.Option(help="Of the newsroom and of the training.")] = 17,
    as_json: Json = False,
) -> None:
    """Newsroom, training, evaluation, export, serving and one personalised feed, in minutes."""
    from pipelines.demo import demo as run_demo
    from pipelines.demo import feed_lines

    with run_demo(out, seed=seed) as result:
        show(result, feed_lines(result), as_json=as_json)
        if keep_serving:
            from pipelines.demo import wait_for_stop

            wait_for_stop(result)


def pretrain(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="A dataset folder; its titles and bodies are read.")
    ],
    out: Out,
    preset: Annotated[str, typer.Option(help="`minilm`, a preset folder, or a name that keras-hub knows.")] = "minilm",
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of the encoder.")] = 2e-5,
    max_tokens: Annotated[int, typer.Option(min=4, max=512, help="Tokens kept of a text.")] = 64,
    validation: Annotated[float, typer.Option(min=0, max=1, help="Share of the texts that is held out.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0)] = 17,
    as_json: Json = False,
) -> None:
    """Train a text encoder further on the words of your own items; the result is a preset folder."""
    from pipelines.data.dataset import Dataset
    from pipelines.pretrain import pretrain as run_pretrain

    result = run_pretrain(
        Dataset.open(dataset),
        out,
        preset=preset,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        validation=validation,
        seed=seed,
    )
    before, best = result["perplexity"][0], result["perplexity"][result["best_epoch"]]
    lines = [
        f"epoch {result['best_epoch']} of {epochs} kept: held-out perplexity of masked words {before:.1f} before, "
        f"{best:.1f} after",
        f"preset written to {out}: name it as features.text.preset in a recipe",
    ]
    show(result, lines, as_json=as_json)


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file.")],
    data: Data,
    out: Out,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was not finished.")] = False,
    mlflow: Annotated[str | None, typer.Option(metavar="URI", help="Record the run in MLflow too.")] = None,
    folds: Annotated[int | None, typer.Option(min=2, max=50, help="Cross-validate instead; no model is kept.")] = None,
    fold_by: Annotated[str, typer.Option("--fold-by", help="users or time.")] = "time",
    engine: EngineName = "duckdb",
    master: Master = None,
    as_json: Json = False,
) -> None:
    """Train a recipe; the result is a run folder. Until it is finished, it is in OUT.partial and can be resumed."""
    from pipelines.recipe import Recipe

    loaded = Recipe.load(recipe)
    if fold_by not in ("users", "time"):
        raise BadInput(f"--fold-by is users or time, not {fold_by!r}.")
    from pipelines.data.dataset import Dataset
    from pipelines.data.engine import choose_engine

    chosen = choose_engine(engine, master)
    if folds is not None:
        from pipelines.folds import cross_validate, table_lines

        by: Any = fold_by
        result = cross_validate(loaded, Dataset.open(data), out, folds=folds, by=by, resume=resume, engine=chosen)
        show(result, [*table_lines(result), f"report written to {out}"], as_json=as_json)
        return
    from pipelines.train import train as run_train

    metrics = run_train(loaded, Dataset.open(data), out, resume=resume, mlflow=mlflow, engine=chosen)
    lines = [f"epoch {metrics['best_epoch']} of {metrics['epochs']} kept"]
    if metrics["validation"]:
        best = max(metrics["validation"]["by_epoch"])
        lines[0] += f", validation {metrics['validation']['metric']} {best:.4f}"
    if "self_training" in metrics:
        lines.append(f"self-training: the {metrics['self_training']['kept']} is kept")
    show(metrics, [*lines, f"run written to {out}"], as_json=as_json)


def tune(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe; its `search` names what is tried.")],
    data: Data,
    out: Out,
    search: Annotated[str, typer.Option(help="random, grid, bayesian or hyperband.")] = "bayesian",
    trials: Annotated[int, typer.Option(min=1, help="At most, beside the recipe as it is.")] = 10,
    minutes: Annotated[float | None, typer.Option(min=0, help="After which no trial is begun.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Trials at once, on this machine.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the search; by default the recipe's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a search, or give it more trials.")] = False,
    engine: EngineName = "duckdb",
    master: Master = None,
    as_json: Json = False,
) -> None:
    """Search a recipe's best values; the result is a table, a page and a recipe to train."""
    if search not in ("random", "grid", "bayesian", "hyperband"):
        raise BadInput(f"--search is random, grid, bayesian or hyperband, not {search!r}.")
    from pipelines.recipe import Recipe

    loaded = Recipe.load(recipe)
    from pipelines.data.dataset import Dataset
    from pipelines.data.engine import choose_engine
    from pipelines.tuning.report import table_lines
    from pipelines.tuning.tune import tune as run_tune

    choose_engine(engine, master)
    algorithm: Any = search
    result = run_tune(
        loaded,
        Dataset.open(data),
        out,
        algorithm=algorithm,
        trials=trials,
        minutes=minutes,
        workers=workers,
        seed=seed,
        resume=resume,
        engine=engine,
        master=master,
    )
    lines = [*table_lines(result), f"written to {out}: recipe.yaml to train, report.html to look at"]
    show(result, lines, as_json=as_json)


def adapt(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file.")],
    data: Data,
    domain: Annotated[str, typer.Option(help="language or category.")],
    held_out: Annotated[str, typer.Option("--held-out", help="The domain whose clicks are held out.")],
    out: Out,
    as_json: Json = False,
) -> None:
    """Train a recipe without a domain's clicks, with and without adaptation, and judge it there."""
    if domain not in ("language", "category"):
        raise BadInput(f"--domain is language or category, not {domain!r}.")
    from pipelines.recipe import Recipe

    loaded = Recipe.load(recipe)
    from pipelines.adapt import adapt as run_adapt
    from pipelines.adapt import table_lines
    from pipelines.data.dataset import Dataset

    result = run_adapt(loaded, Dataset.open(data), out, domain=domain, held_out=held_out)
    show(result, [*table_lines(result), f"report written to {out}"], as_json=as_json)


def ablate(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file.")],
    data: Data,
    out: Out,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="STEP", help="Such as balance.upsample; by default each that is on."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=50, help="Trainings of each.")] = 1,
    as_json: Json = False,
) -> None:
    """Train a recipe as it is and once without each of its steps, and show what each is worth."""
    from pipelines.recipe import Recipe

    loaded = Recipe.load(recipe)
    from pipelines.ablate import PAGE, table_lines
    from pipelines.ablate import ablate as run_ablate
    from pipelines.data.dataset import Dataset

    result = run_ablate(loaded, Dataset.open(data), out, without=without or (), seeds=seeds)
    show(result, [*table_lines(result), f"report written to {out}, see {PAGE}"], as_json=as_json)


def evaluate(
    run: RunFolder,
    data: OtherData = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the result there, as JSON.")] = None,
    engine: EngineName = "duckdb",
    master: Master = None,
    as_json: Json = False,
) -> None:
    """Judge a run beside simple baselines, with 95 % intervals."""
    from pipelines.data.dataset import Dataset
    from pipelines.data.engine import choose_engine
    from pipelines.evaluate import evaluate as run_evaluate
    from pipelines.evaluate import table_lines
    from pipelines.run import Run

    other = Dataset.open(data) if data else None
    result = run_evaluate(Run.open(run), other, out=out, engine=choose_engine(engine, master))
    show(result, table_lines(result), as_json=as_json)


def score(run: RunFolder, data: Data, out: Out, as_json: Json = False) -> None:
    """Write a score for every impression, as TSV: request_id, item_id, score."""
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
    from pipelines.explore import explore as run_explore
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
    show(result, [f"{result['rows']:,} of {result['among']:,} {what} written to {out}"], as_json=as_json)


def embed(
    run: RunFolder,
    out: Out,
    data: OtherData = None,
    engine: Annotated[str, typer.Option(help="What computes: local or spark.")] = "local",
    master: Master = None,
    as_json: Json = False,
) -> None:
    """Write the embedding of every item, as Parquet: item_id, embedding."""
    if engine not in ("local", "spark") or (engine == "spark") == (master is None):
        raise BadInput("--engine is local, or spark with --master URL.")
    from pipelines.data.dataset import Dataset
    from pipelines.run import Run

    opened, dataset = Run.open(run), Dataset.open(data) if data else None
    if master is None:
        from pipelines.embed import embed as run_embed

        items = run_embed(opened, out, dataset)
    else:
        from pipelines.embed_spark import embed_on_spark

        items = embed_on_spark(opened, out, dataset, master=master)
    show({"items": items, "file": str(out)}, [f"{items:,} embeddings written to {out}"], as_json=as_json)


def export(
    run: RunFolder,
    to: Annotated[Path, typer.Option("--to", help="The model's folder, such as models/news.")],
    data: OtherData = None,
    as_json: Json = False,
) -> None:
    """Write the next numbered version of a model for TF Serving or `belfry model-server`."""
    from pipelines.data.dataset import Dataset
    from pipelines.export import export as run_export
    from pipelines.run import Run

    version = run_export(Run.open(run), to, Dataset.open(data) if data else None)
    result = {"model": to.name, "version": int(version.name), "folder": str(version)}
    show(result, [f"version {version.name} of {to.name} written to {version}"], as_json=as_json)


def model_server(context: typer.Context) -> None:
    """Serve a model with TensorFlow Serving's own API and flags (see --help)."""
    from serving.model_server import run as serve

    raise typer.Exit(serve(list(context.args)))
