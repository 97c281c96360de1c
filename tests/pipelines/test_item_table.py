"""Every choice of an item's inputs trains, reads the same in Python and in the graph, and is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.encode import item_vectors, load_encoder
from pipelines.recipe import Recipe, Text
from pipelines.run import Run
from pipelines.saved_model import export
from pipelines.training import train
from towers.runtime import tf
from towers.text import encode_fields


@pytest.mark.parametrize("fields", ["joined", "title", "separate"])
def test_the_table_holds_what_the_graph_reads(fields: Any, dataset_folder: Path, tiny_preset: str) -> None:
    catalogue = Catalogue.load(Dataset.open(dataset_folder))
    text = Text(preset=tiny_preset, max_tokens=12, fields=fields)
    title, body = (tf.constant([str(value) for value in values]) for values in (catalogue.title, catalogue.body))
    expected = encode_fields(load_encoder(text), fields, title, body).numpy()
    np.testing.assert_allclose(item_vectors(catalogue, text), expected, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"features": {"text": {"fields": "separate"}}},
        {"features": {"text": {"fields": "title"}}, "towers": {"hidden": [12, 8], "dropout": 0.3}},
        {"features": {"text": {"pooling": "cls"}}},
        {
            "features": {"text": {"pooling": "attention", "fields": "title"}},
            "fine_tuning": {"stages": [{"epoch": 1, "layers": [0]}], "learning_rate": 1e-3, "warmup_steps": 2},
        },
    ],
)
@pytest.mark.usefixtures("loaded_here")
def test_every_choice_trains_and_is_served(
    change: dict[str, Any], small_recipe: dict[str, Any], dataset_folder: Path, tmp_path: Path
) -> None:
    text = {**small_recipe["features"]["text"], **change["features"]["text"]}
    recipe = Recipe.model_validate(
        {
            **small_recipe,
            **change,
            "features": {**small_recipe["features"], "text": text},
            "towers": {**small_recipe["towers"], **change.get("towers", {})},
            "training": {**small_recipe["training"], "epochs": 1},
            "data": {"split": {"by": "none"}},
        }
    )
    train(recipe, Dataset.open(dataset_folder), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    model = run.model(Catalogue.load(Dataset.open(dataset_folder)))
    learned = {"hidden": model.content.hidden and model.content.hidden.last.kernel}
    learned["attention"] = model.text_top and model.text_top.attention and model.text_top.attention.query
    for name, weight in learned.items():
        assert weight is None or np.abs(weight.numpy()).max() > 0, name
    assert export(run, tmp_path / "model").name == "1"
