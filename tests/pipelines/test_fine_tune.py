"""A fine-tuning schedule carried out for real on the small dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.build import build_model
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.encode import load_encoder
from pipelines.errors import BadInput
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.saved_model import export
from pipelines.text_states import text_states
from pipelines.training import train
from towers.runtime import tf


@pytest.fixture(scope="module")
def recipe(small_recipe: dict[str, Any]) -> dict[str, Any]:
    return {
        **small_recipe,
        "training": {**small_recipe["training"], "epochs": 2},
        "fine_tuning": {"stages": [{"epoch": 2, "layers": [0]}], "learning_rate": 1e-3, "warmup_steps": 2},
    }


@pytest.fixture(scope="module")
def run(recipe: dict[str, Any], dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "tuned"
    none = {**recipe, "data": {"split": {"by": "time", "validation": 0.0, "test": 0.2}}}
    train(Recipe.model_validate(none), Dataset.open(dataset_folder), out)
    return Run.open(out)


def test_states_hold_every_text_once_and_give_any_rows_back(recipe: dict[str, Any], tmp_path: Path) -> None:
    encoder = load_encoder(Recipe.model_validate(recipe).features.text)  # type: ignore[arg-type]
    texts = np.array(["storm and rain", "", "goal", "wine and bread and salt in the oven", "vote"], dtype=object)
    states = text_states(texts, encoder, 0, tmp_path)
    tokens = encoder.tokenize(tf.constant(list(texts)))
    expected = encoder.lower(0)(tokens).numpy()
    lengths = tokens["padding_mask"].numpy().sum(axis=1) * (texts != "")
    given = states.of(np.array([5, 2, 1, 4]))
    assert list(given["lengths"]) == sorted(lengths[[4, 1, 0, 3]])
    start = 0
    for row, length in zip(given["encoded"], given["lengths"], strict=True):
        np.testing.assert_allclose(given["states"][start : start + length], expected[row - 1, :length], atol=1e-5)
        start += length
    assert start == len(given["states"])
    assert sorted(np.concatenate(list(states.blocks(np.array([4, 1, 5]))))) == [1, 4, 5]


def test_states_that_were_cut_off_are_an_error(recipe: dict[str, Any], tmp_path: Path) -> None:
    encoder = load_encoder(Recipe.model_validate(recipe).features.text)  # type: ignore[arg-type]
    states = text_states(np.array(["storm", "goal and vote"], dtype=object), encoder, 0, tmp_path)
    with states.path.open("r+b") as file:
        file.truncate(states.path.stat().st_size - 4)
    with pytest.raises(OSError, match="shorter than it was written"):
        states.of(np.array([1, 2]))


def test_the_encoder_moves_and_a_reopened_run_has_it(run: Run, dataset_folder: Path) -> None:
    catalogue = Catalogue.load(Dataset.open(dataset_folder))
    tuned = run.model(catalogue)
    start = build_model(run.recipe, run.vocabulary, catalogue)
    moved = [
        np.abs(left.numpy() - right.numpy()).max()
        for left, right in zip(tuned.text_top.weights, start.text_top.weights, strict=True)
    ]
    assert min(moved) >= 0
    assert np.median(moved) > 1e-4
    assert np.abs(tuned.items.text.numpy() - start.items.text.numpy()).max() > 1e-3
    texts = tf.constant(list(catalogue.text))
    again = tuned.text_top.encoder.value.encode(texts).numpy()
    np.testing.assert_allclose(tuned.items.text.numpy()[1:], again, atol=1e-5)


@pytest.mark.usefixtures("loaded_here")
def test_the_tuned_encoder_is_what_is_served(run: Run, tmp_path: Path) -> None:
    # The check inside compares `embed_items` from raw text with the Python model.
    assert export(run, tmp_path / "model").name == "1"


def test_the_same_seed_gives_the_same_weights(run: Run, dataset_folder: Path, tmp_path: Path) -> None:
    metrics = train(run.recipe, Dataset.open(dataset_folder), tmp_path / "again")
    assert metrics["loss"] == run.metrics["loss"]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"stages": [{"epoch": 1, "layers": [7]}]}, "layers 0 to 0"),
    ],
)
def test_a_layer_that_does_not_exist_is_refused_before_training(
    recipe: dict[str, Any], dataset_folder: Path, tmp_path: Path, schedule: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        train(Recipe.model_validate({**recipe, "fine_tuning": schedule}), Dataset.open(dataset_folder), tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"stages": []}, "at least 1 item"),
        ({"stages": [{"epoch": 1, "layers": []}]}, "at least 1 item"),
        ({"stages": [{"epoch": 1, "layers": [0]}, {"epoch": 2, "layers": [-1]}]}, "greater than or equal to 0"),
        ({"stages": [{"epoch": 1, "layers": [5]}, {"epoch": 2, "layers": [5]}]}, "thaws nothing"),
        ({"stages": [{"epoch": 3, "layers": [0]}]}, "thaws layers in epoch 3, but training.epochs is 2"),
        ({"stages": [{"epoch": 2, "layers": [5]}, {"epoch": 1, "layers": [4]}]}, "in order of their epochs"),
        ({"stages": [{"epoch": 1, "layers": [5]}, {"epoch": 2, "layers": [3]}]}, "without a gap"),
        ({"stages": [{"epoch": 1, "layers": [4]}, {"epoch": 2, "layers": [5]}]}, "from the top down"),
    ],
)
def test_a_schedule_that_trains_nothing_or_makes_no_sense_is_refused(
    recipe: dict[str, Any], schedule: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate({**recipe, "fine_tuning": schedule})
