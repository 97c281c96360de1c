"""The commands that train: `pretrain`, `train`, `tune`, `adapt` and `ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.options import Data, EngineName, Json, Master, Out, show, starting
from pipelines.errors import BadInput


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
    from pipelines.pretraining import pretrain as run_pretrain

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
    lines = [*result.lines(), f"preset written to {out}: name it as features.text.preset in a recipe"]
    show(result, lines, as_json=as_json)


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file.")],
    data: Data,
    out: Out,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was not finished.")] = False,
    mlflow: Annotated[str | None, typer.Option(metavar="URI", help="Record the run in MLflow too.")] = None,
    folds: Annotated[int | None, typer.Option(min=2, max=50, help="Cross-validate instead; no model is kept.")] = None,
    fold_by: Annotated[str | None, typer.Option("--fold-by", help="users or time, which is the default.")] = None,
    engine: EngineName = "duckdb",
    master: Master = None,
    as_json: Json = False,
) -> None:
    """Train a recipe; the result is a run folder. Until it is finished, it is in OUT.partial and can be resumed."""
    from pipelines.recipe import Recipe

    loaded = Recipe.load(recipe)
    if fold_by not in ("users", "time", None):
        raise BadInput(f"--fold-by is users or time, not {fold_by!r}.")
    if fold_by is not None and folds is None:
        raise BadInput("--fold-by goes with --folds.")
    if mlflow is not None and folds is not None:
        raise BadInput("--mlflow records one run, and --folds keeps none: leave one of them out.")
    from pipelines.data.dataset import Dataset
    from pipelines.data.engine import choose_engine

    chosen = choose_engine(engine, master)
    if folds is not None:
        from pipelines.folds import PAGE, cross_validate

        by: Any = fold_by or "time"
        result = cross_validate(loaded, Dataset.open(data), out, folds=folds, by=by, resume=resume, engine=chosen)
        show(result, [*result.lines(), f"report written to {out}, see {PAGE}"], as_json=as_json)
        return
    from pipelines.run import REPORT

    with starting():
        from pipelines.training import train as run_train

    metrics = run_train(loaded, Dataset.open(data), out, resume=resume, mlflow=mlflow, engine=chosen)
    show(metrics, [*metrics.lines(), f"run written to {out}, see {REPORT}"], as_json=as_json)


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
    lines = [*result.lines(), f"written to {out}: recipe.yaml to train, report.html to look at"]
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
    from pipelines.adaptation import adapt as run_adapt
    from pipelines.data.dataset import Dataset

    result = run_adapt(loaded, Dataset.open(data), out, domain=domain, held_out=held_out)
    show(result, [*result.lines(), f"report written to {out}"], as_json=as_json)


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
    from pipelines.ablation import PAGE
    from pipelines.ablation import ablate as run_ablate
    from pipelines.data.dataset import Dataset

    result = run_ablate(loaded, Dataset.open(data), out, without=without or (), seeds=seeds)
    show(result, [*result.lines(), f"report written to {out}, see {PAGE}"], as_json=as_json)
