"""A champion that has learned the wrong thing from the older half of the small dataset, and its model folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data import schema
from pipelines.data.dataset import Dataset, new_dataset, write_info
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.saved_model import export
from pipelines.training import train
from tests.quick_exports import quick_exports

HALF = datetime(2025, 2, 2, 16, tzinfo=UTC)
NOW = datetime(2025, 2, 4, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Begun:
    """What a retraining begins with. `recipe` is the champion's."""

    models: Path
    run: Path
    recipe: Recipe
    data: Path
    now: datetime = NOW


@pytest.fixture(scope="session")
def misleading(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The older half of the small dataset, in which clicks are moved to other items of their slates."""
    whole, folder = Dataset.open(dataset_folder), tmp_path_factory.mktemp("older") / "data"
    rows = [row for row in pq.read_table(whole.events).to_pylist() if row["at"] < HALF]
    shown: dict[str, list[str]] = {}
    for row in rows:
        if row["kind"] == "impression":
            shown.setdefault(row["request_id"], []).append(row["item_id"])
    clicked = {(row["request_id"], row["item_id"]) for row in rows if row["kind"] == "click"}
    for row in rows:
        if row["kind"] == "click":
            others = [item for item in shown[row["request_id"]] if (row["request_id"], item) not in clicked]
            row["item_id"] = others[row["position"] % len(others)] if others else row["item_id"]
    with new_dataset(folder) as draft:
        pq.write_table(pa.Table.from_pylist(rows, schema.EVENTS), draft / "events.parquet")
        for name in ("items.parquet", "users.parquet"):
            shutil.copy(dataset_folder / name, draft / name)
        write_info(draft, whole.info.model_copy(update={"events": len(rows), "last_at": rows[-1]["at"]}))
    return Dataset.open(folder)


@pytest.fixture(scope="session")
def begun(
    misleading: Dataset,
    dataset_folder: Path,
    small_recipe: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Begun:
    folder = tmp_path_factory.mktemp("champion")
    retraining = {"days": 1.5, "replay": 0.5, "window": 0.3, "tolerance": 0.02, "slice_users": 1000}
    towers = {**small_recipe["towers"], "history_encoder": "mean"}
    training = {**small_recipe["training"], "epochs": 3}
    recipe = Recipe.model_validate({**small_recipe, "towers": towers, "training": training, "retraining": retraining})
    train(recipe.changed({"data.split": {"by": "none"}}), misleading, folder / "run")
    with quick_exports():
        export(Run.open(folder / "run"), folder / "models" / "news")
    return Begun(folder / "models", folder / "run", recipe, dataset_folder)


@pytest.fixture
def fresh_models(begun: Begun, tmp_path: Path) -> Path:
    """A model folder of its own for a test."""
    return Path(shutil.copytree(begun.models, tmp_path / "models"))


@pytest.fixture(scope="session")
def copied(begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Model folders for what outlasts a test."""
    return lambda: Path(shutil.copytree(begun.models, tmp_path_factory.mktemp("copied") / "models"))
