"""Cross-validation: a recipe trained and judged fold by fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from pipelines.artefacts import atomic_folder, check_folder, write_json
from pipelines.build import build_model
from pipelines.data.dataset import Dataset
from pipelines.data.engine import OpenEngine, open_duckdb
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.fit import Validation
from pipelines.folds_page import folds_page
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared, prepare
from pipelines.progress import say, track
from pipelines.ranking import resolve_ranking
from pipelines.recipe import Recipe
from pipelines.result import Result
from pipelines.run import RECIPE, origin_of
from pipelines.training import train_prepared
from pipelines.unfinished import unfinished

REPORT, PAGE = "folds.json", "folds.html"
FILES = (REPORT, RECIPE, PAGE)
# By how much training must have drawn the training part ahead of the test before it is called overfitting.
_GAP = 0.05
_TRAINING_UNITS = 2000


def cross_validate(
    recipe: Recipe,
    dataset: Dataset,
    out: Path | str,
    *,
    folds: int,
    by: Literal["users", "time"] = "time",
    resume: bool = False,
    engine: OpenEngine = open_duckdb,
) -> Result:
    """Train a recipe once for each fold and write how it does on the fold's test; no model is kept.

    By users, every user is tested once, by a model that has seen nothing of theirs. By time, a model is tested on the
    block of the log that follows what it was trained on (rolling origin). The epoch is chosen on a validation part of
    what is left, as ever.

    Training draws a model's figures on its training part ahead of those on the test; `gap` is that lead, less the lead
    that the untrained towers have, so that a part which is easier does not count. It is called overfitting where its
    mean over the folds is above 0.05 and its 95 % interval (Student's t over the folds) above 0. Folds share most of
    what they are trained on, so that the spread is that of the data's parts and a little too small for a difference
    between recipes (Bengio and Grandvalet 2004).

    Raises:
        BadInput: A fold has nothing to be judged on, or as for `pipelines.training.train`.

    Args:
        recipe: Its split is replaced by the folds'.
        dataset: Trained and judged on.
        out: The folder to make, with folds.json; one that this made before is replaced.
        folds: 2 or more.
        by: "users" or "time".
        resume: Go on with folds that were not finished.
        engine: Opens what prepares the events.

    Example:
        >>> from pipelines import Dataset, Run, cross_validate
        >>> recipe = Run.open("run").recipe.changed({"training.epochs": 1})
        >>> result = cross_validate(recipe, Dataset.open("data"), "folds", folds=2, by="users")  # doctest: +SKIP
        >>> len(result["folds"]), sorted(result["gap"])  # doctest: +SKIP
        (2, ['deviation', 'high', 'low', 'mean'])
    """
    out = Path(out)
    check_folder(out, replaces=FILES)
    recipes = [_of_fold(recipe, by, folds, fold) for fold in range(folds)]
    with unfinished(out, origin_of(recipes[0], dataset), recipes[0], resume=resume) as work:
        rows = []
        for fold, each in track(enumerate(recipes), "folds", folds):
            say(f"fold {fold + 1} of {folds}")
            data = prepare(dataset, each, engine=engine)
            each = resolve_ranking(each, data)
            judges = {name: _judge(each, data, part) for name, part in (("training", Part.TRAIN), ("test", Part.TEST))}
            untrained = ModelRanker(build_model(each, data.vocabulary, data.catalogue), data.window)
            trained = train_prepared(each, data, work.scratch, checkpoint=work.part(f"fold-{fold}"))
            ranker = trained.ranker(each, data)
            rows.append(
                {
                    "best_epoch": trained.metrics["best_epoch"],
                    "examples": trained.metrics["examples"],
                    **{name: judge.measure_all(ranker) for name, judge in judges.items()},
                    "untrained": {name: judge.measure_all(untrained) for name, judge in judges.items()},
                }
            )
        result = _summary(rows, judges["test"].name) | {"by": by, "folds": rows}
        with atomic_folder(out, replaces=FILES) as draft:
            (draft / RECIPE).write_text(recipe.dump(), encoding="utf-8")
            (draft / PAGE).write_text(folds_page(result, recipe.dump()), encoding="utf-8")
            write_json(draft / REPORT, result)
    return Result(result, table_lines, table_rows)


def _of_fold(recipe: Recipe, by: str, folds: int, fold: int) -> Recipe:
    split = {"by": by, "folds": folds, "fold": fold, "validation": recipe.data.split.validation}
    values = recipe.model_dump()
    return Recipe.model_validate(
        {
            **values,
            "data": {**values["data"], "split": split},
            "training": {**values["training"], "refit": False},
        }
    )


def _judge(recipe: Recipe, data: Prepared, part: Part) -> Validation:
    """Of the test, or of as many units of the training part as say enough."""
    among = None
    if part == Part.TRAIN:
        units = data.parts.requests if data.on_requests else data.parts.interactions
        place = np.flatnonzero(units == part)
        some = np.random.default_rng(recipe.training.seed).permutation(place)[:_TRAINING_UNITS]
        among = np.isin(np.arange(len(units)), some)
    judge = Validation.of(data, recipe.training, among, part=part, most=len(data.behaviour.interactions))
    if judge is None:
        raise BadInput(f"a fold of {data.name} has nothing to be judged on: use fewer folds.")
    return judge


def _summary(rows: list[dict[str, Any]], chosen: str) -> dict[str, Any]:
    test = {name: _spread([row["test"][name] for row in rows]) for name in rows[0]["test"]}
    gap = _spread(
        [_lead(row, chosen) - _lead(row["untrained"], chosen) for row in rows],
    )
    return {"metric": chosen, "test": test, "gap": gap, "overfits": gap["mean"] > _GAP and gap["low"] > 0}


def _lead(row: dict[str, Any], metric: str) -> float:
    return row["training"][metric] - row["test"][metric]


def _spread(values: list[float]) -> dict[str, float]:
    """Mean, standard deviation, and the 95 % interval of the mean by Student's t."""
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * deviation / len(values) ** 0.5
    return {"mean": mean, "deviation": deviation, "low": mean - half, "high": mean + half}


def table_lines(result: dict[str, Any]) -> list[str]:
    """The result as aligned plain text."""
    rows, chosen = result["folds"], result["metric"]
    lines = [f"  {'fold':6}{'examples':>10}{'epoch':>7}{'training':>10}{'test':>10}   {chosen}"]
    for fold, row in enumerate(rows):
        cells = (
            f"{row['examples']:>10,}{row['best_epoch']:>7}{row['training'][chosen]:>10.4f}{row['test'][chosen]:>10.4f}"
        )
        lines.append(f"  {fold:<6}{cells}")
    lines.append("")
    for name, spread in result["test"].items():
        lines.append(
            f"  {name:14}{spread['mean']:.4f} ± {spread['deviation']:.4f}, "
            f"mean in [{spread['low']:.4f}, {spread['high']:.4f}]"
        )
    gap = result["gap"]
    verdict = "overfits" if result["overfits"] else "no sign of overfitting"
    lines += [
        "",
        f"{verdict}: training has drawn the training part ahead of the test by {gap['mean']:+.4f} "
        f"[{gap['low']:+.4f}, {gap['high']:+.4f}] {chosen}",
    ]
    return lines


def table_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each fold and metric: its value on the fold's training part and on its test."""
    return [
        {"fold": fold, "metric": metric, "training": row["training"][metric], "test": value}
        | {name: row[name] for name in ("examples", "best_epoch")}
        for fold, row in enumerate(result["folds"])
        for metric, value in row["test"].items()
    ]
