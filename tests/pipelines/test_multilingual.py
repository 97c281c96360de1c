"""The multilingual recipe on a newsroom of four languages, with a tiny XLM-R in the place of the large preset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.data.sources.newsroom import NewsroomSize, import_newsroom
from pipelines.recipe import Recipe, Stage
from pipelines.run import Run, build_model
from pipelines.saved_model import export
from pipelines.training import train
from recipes import shipped


@pytest.fixture(scope="module")
def recipe(multilingual_preset: str) -> Recipe:
    """The shipped recipe with another preset, which has one layer, and fewer epochs."""
    loaded = Recipe.load(shipped("multilingual"))
    assert loaded.features.text is not None
    assert loaded.fine_tuning is not None
    text = loaded.features.text.model_copy(update={"preset": multilingual_preset})
    schedule = {"stages": (Stage(epoch=1, layers=(0,)),), "learning_rate": 1e-3, "warmup_steps": 2}
    changes: dict[str, Any] = {
        "features": loaded.features.model_copy(update={"text": text}),
        "fine_tuning": loaded.fine_tuning.model_copy(update=schedule),
        "training": loaded.training.model_copy(update={"epochs": 1}),
        "towers": loaded.towers.model_copy(update={"width": 16, "history_units": 8}),
    }
    return loaded.model_copy(update=changes)


def test_a_multilingual_encoder_is_fine_tuned_and_exported(recipe: Recipe, tmp_path: Path) -> None:
    import_newsroom(NewsroomSize(articles=300, users=100, days=3, requests=300), tmp_path / "data", seed=3)
    dataset = Dataset.open(tmp_path / "data")
    assert dataset.info.languages == ["de", "en", "es", "fr"]
    # Every epoch is kept where nothing is held out to choose one by.
    split = recipe.data.split.model_copy(update={"validation": 0.0})
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"split": split})})
    train(recipe, dataset, tmp_path / "run")
    run, catalogue = Run.open(tmp_path / "run"), Catalogue.load(dataset)
    trained, start = run.model(catalogue), build_model(run.recipe, run.vocabulary, catalogue)
    moved = [
        not np.array_equal(new, old)
        for new, old in zip(trained.text_top.get_weights(), start.text_top.get_weights(), strict=True)
    ]
    assert any(moved)
    # Publishes only what a fresh process answers as the model here does: the SentencePiece vocabulary is inside.
    version = export(run, tmp_path / "models" / "multilingual")
    assert version.name == "1"
