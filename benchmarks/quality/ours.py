"""The product's own recipes, trained by the path that `belfry train` takes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.quality.protocol import Fitted, Method, Training, View
from pipelines.data.dataset import Dataset
from pipelines.prepare import prepare_for
from pipelines.rankers import Ranker
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.trained import trained_ranker
from recipes import shipped


def recipe(name: str, *, data: str | None = None, label: str = "", **training: Any) -> Method:
    """The shipped recipe `name` as a method.

    Args:
        data: The dataset beside the training's to train on, where a split is made by events and not by a recipe.
        label: What sets it apart from the recipe as shipped.
        training: Changes of the recipe's section `training`; say so in `label`.
    """

    def fit(learned: Training) -> Fitted:
        loaded = Recipe.load(shipped(name))
        if training:
            loaded = loaded.model_copy(update={"training": loaded.training.model_copy(update=training)})
        folder = learned.view.folder if data is None else learned.view.folder.parent / data
        return _train(loaded, folder)

    return Method(f"recipes/{name}.yaml" + (f" {label}" if label else ""), fit, ours=True)


def _train(loaded: Recipe, folder: Path) -> Fitted:
    from pipelines.training import train

    out = Path(tempfile.mkdtemp(prefix="run-", dir=folder.parent)) / "run"
    metrics = train(loaded, Dataset.open(folder), out)
    run = Run.open(out)

    def over(view: View) -> Ranker:
        data = prepare_for(run, Dataset.open(view.folder))
        if len(data.behaviour.interactions) != len(view.behaviour.interactions):
            raise AssertionError("the recipe reads other positives than the task")
        return trained_ranker(run, data)

    chosen = metrics["validation"]
    return Fitted(over, max(chosen["by_epoch"]) if chosen else None)
