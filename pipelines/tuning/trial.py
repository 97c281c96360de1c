"""One trial of a search: a recipe trained and judged on the validation part."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import atomic_file
from pipelines.checkpoint import Checkpoint, History
from pipelines.data.dataset import Dataset
from pipelines.data.engine import OpenEngine, open_duckdb
from pipelines.errors import BadInput, Stopped
from pipelines.fit import Validation
from pipelines.prepare import Prepared, prepare
from pipelines.ranking import resolve_ranking
from pipelines.recipe import Recipe
from pipelines.training import train_prepared

# What a dataset is prepared by: a trial that changes nothing here takes what is there.
_PREPARED_BY = {"data", "features", "ensemble", "ranking"}


@dataclass(frozen=True)
class Task:
    """A trial to be run.

    Attributes:
        name: Of its files.
        recipe: As `Recipe.model_dump(mode="json")` has it.
        epochs: That it gets, or None for the recipe's.
        continues: The name of the trial from whose checkpoint it goes on, or None.
        deadline: The moment, in seconds since 1970, after which it ends at the next epoch; or None.
    """

    name: str
    recipe: dict[str, Any]
    epochs: int | None = None
    continues: str | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class Measured:
    """What a trial came to.

    Attributes:
        metric: That chooses.
        score: Of the best epoch, on the validation part.
        metrics: Every metric, likewise.
        by_epoch: The towers' metric, from epoch 0.
    """

    metric: str
    score: float
    metrics: dict[str, float]
    by_epoch: list[float]
    best_epoch: int
    seconds: float


class Trials:
    """Runs trials on a dataset, one after the other.

    Args:
        folder: Where each leaves its checkpoint, `NAME.npz`, and `NAME.npy`: the metric of each slate or user of the
            validation part.
        scratch: For large temporary files.
    """

    def __init__(self, dataset: Dataset, folder: Path, scratch: Path, engine: OpenEngine = open_duckdb) -> None:
        self._dataset, self._folder, self._scratch, self._engine = dataset, folder, scratch, engine
        self._prepared: tuple[Any, Prepared] | None = None

    def run(self, task: Task) -> Measured:
        """Train from the last checkpoint on, where there is one, and judge.

        Raises:
            BadInput: The recipe cannot be trained on the dataset, has no validation part, or diverged.
            Stopped: The deadline has passed; the checkpoint is there.
        """
        began = time.monotonic()
        recipe = Recipe.model_validate(task.recipe)
        data = self._prepare(recipe)
        recipe = resolve_ranking(recipe, data)
        validation = Validation.of(data, recipe.training)
        if validation is None:
            raise BadInput("a search needs a validation part to choose by: set data.split.validation above 0.")

        def checkpoint(fit: str) -> Checkpoint:
            path = self._folder / f"{task.name}-{fit}.npz"
            before = self._folder / f"{task.continues}-{fit}.npz"
            if task.continues is not None and before.exists() and not path.exists():
                with atomic_file(path) as draft:
                    shutil.copyfile(before, draft)
            return Checkpoint(path, lambda history: _check(task.deadline, history))

        trained = train_prepared(recipe, data, self._scratch, checkpoint=checkpoint, epochs=task.epochs)
        units = validation.units(trained.ranker(recipe, data))
        metrics = {name: float(np.nanmean(values)) for name, values in units.items()}
        if not np.isfinite(metrics[validation.name]):
            raise BadInput(f"{validation.name} is not a number.")
        with atomic_file(self._folder / f"{task.name}.npy") as draft, draft.open("wb") as file:
            np.save(file, units[validation.name])
        return Measured(
            validation.name,
            metrics[validation.name],
            {name: value for name, value in metrics.items() if np.isfinite(value)},
            trained.metrics["validation"]["by_epoch"],
            trained.metrics["best_epoch"],
            time.monotonic() - began,
        )

    def _prepare(self, recipe: Recipe) -> Prepared:
        by = recipe.model_dump(include=_PREPARED_BY), recipe.training.seed
        if self._prepared is None or self._prepared[0] != by:
            self._prepared = by, prepare(self._dataset, recipe, engine=self._engine)
        return self._prepared[1]


def _check(deadline: float | None, history: History) -> None:
    if deadline is not None and time.time() > deadline:
        raise Stopped(f"out of time after epoch {history.epochs}")
