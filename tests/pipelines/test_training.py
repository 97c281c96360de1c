from __future__ import annotations

import copy
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.build import build_model
from pipelines.data.dataset import Dataset, write_info
from pipelines.errors import BadInput
from pipelines.prepare import prepare
from pipelines.recipe import Recipe
from pipelines.run import METRICS, RECIPE, WEIGHTS, Run, origin_of
from pipelines.training import train


def recipe(base: dict[str, Any], **changes: dict[str, Any]) -> Recipe:
    merged = copy.deepcopy(base)
    for section, values in changes.items():
        merged.setdefault(section, {}).update(values)
    return Recipe.model_validate(merged)


def test_training_finds_what_users_want(run_folder: Path) -> None:
    by_epoch = json.loads((run_folder / METRICS).read_text())["validation"]["by_epoch"]
    assert max(by_epoch) > 0.85
    assert max(by_epoch) > by_epoch[0] + 0.01


def test_ids_alone_learn_from_nothing(dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path) -> None:
    ids = recipe(small_recipe, features={"text": None, "category": False, "language": False}, training={"epochs": 8})
    by_epoch = train(ids, Dataset.open(dataset_folder), tmp_path / "run")["validation"]["by_epoch"]
    assert by_epoch[0] < 0.6
    assert max(by_epoch) > 0.7


def test_the_run_folder_can_be_opened_and_holds_the_trained_weights(run_folder: Path) -> None:
    run = Run.open(run_folder)
    data = prepare(run.training_data(), run.recipe)
    trained = run.model(data.catalogue)
    fresh = build_model(run.recipe, run.vocabulary, data.catalogue)
    moved = [
        not np.array_equal(new.numpy(), old.numpy())
        for new, old in zip(trained.trainable_weights, fresh.trainable_weights, strict=True)
    ]
    assert all(moved)
    assert run.origin.versions["keras"].startswith("3.")


def test_towers_are_not_put_on_an_encoder_that_they_were_not_trained_on(
    run_folder: Path, tiny_preset: str, tmp_path: Path
) -> None:
    preset, folder = tmp_path / "preset", tmp_path / "run"
    shutil.copytree(tiny_preset, preset)
    shutil.copytree(run_folder, folder)
    text = (folder / RECIPE).read_text()
    assert tiny_preset in text
    (folder / RECIPE).write_text(text.replace(tiny_preset, str(preset)))
    run = Run.open(folder)
    catalogue = prepare(run.training_data(), run.recipe).catalogue
    run.model(catalogue)  # a preset may move
    with (preset / "model.weights.h5").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(BadInput, match="has other weights than"):
        run.model(catalogue)
    older = run.origin.model_copy(update={"encoders": ""})
    replace(run, origin=older).model(catalogue)  # of before it was recorded: it cannot be told
    as_it_began = origin_of(Run.open(run_folder).recipe, run.training_data())
    resumed = origin_of(run.recipe, run.training_data())
    assert resumed.model_copy(update={"recipe": as_it_began.recipe}).difference(as_it_began) == "weights of an encoder"


def test_a_model_of_a_log_without_times_does_not_mind_that_it_is_served_with_them(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    timeless = tmp_path / "data"
    shutil.copytree(dataset_folder, timeless)
    dataset = Dataset.open(timeless)
    write_info(timeless, dataset.info.model_copy(update={"clock": "row order"}))
    train(recipe(small_recipe, training={"epochs": 1}), Dataset.open(timeless), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.vocabulary.unheard == ["age"]
    data = prepare(run.training_data(), run.recipe)
    model, users = run.model(data.catalogue), np.arange(3)
    asked = data.window.batch(users, data.behaviour.interactions.user_offsets[1:4], np.zeros(3, np.int64))
    assert asked["history"].any()
    assert not asked["age_seconds"].any()
    served = asked | {"age_seconds": np.full_like(asked["age_seconds"], 1.7e9)}
    np.testing.assert_array_equal(model.embed_users(served), model.embed_users(asked))


def test_same_seed_same_metrics_and_weights(
    dataset_folder: Path, small_recipe: dict[str, Any], run_folder: Path, tmp_path: Path
) -> None:
    again = train(recipe(small_recipe), Dataset.open(dataset_folder), tmp_path / "again")
    assert again == json.loads((run_folder / METRICS).read_text())
    catalogue = prepare(Dataset.open(dataset_folder), recipe(small_recipe)).catalogue
    left = Run.open(run_folder).model(catalogue).get_weights()
    right = Run.open(tmp_path / "again").model(catalogue).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_another_seed_gives_another_model(
    dataset_folder: Path, small_recipe: dict[str, Any], run_folder: Path, tmp_path: Path
) -> None:
    other = train(recipe(small_recipe, training={"seed": 4}), Dataset.open(dataset_folder), tmp_path / "other")
    assert other["loss"] != json.loads((run_folder / METRICS).read_text())["loss"]


@pytest.mark.parametrize(
    "changes",
    [
        {"features": {"text": None}, "training": {"epochs": 1}},
        {"features": {"item_id": False, "category": False}, "training": {"epochs": 1}},
        {"towers": {"history_encoder": "mean"}, "training": {"epochs": 1}},
        {"data": {"examples": "interactions", "split": {"by": "last"}}, "training": {"epochs": 1}},
        {"data": {"split": {"by": "none"}}, "training": {"epochs": 1}},
        {"training": {"epochs": 1, "max_examples_per_user": 2}},
    ],
    ids=["ids", "text only", "mean", "interactions", "no split", "few a user"],
)
def test_every_choice_of_a_recipe_trains(
    changes: dict[str, Any], dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    metrics = train(recipe(small_recipe, **changes), Dataset.open(dataset_folder), tmp_path / "run")
    assert metrics["epochs"] == 1
    assert np.isfinite(metrics["loss"]).all()
    assert (metrics["validation"] is None) == (changes.get("data", {}).get("split", {}).get("by") == "none")


def test_epochs_stop_when_validation_no_longer_improves(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    still = {"epochs": 9, "learning_rate": 1e-9, "patience": 2}
    metrics = train(recipe(small_recipe, training=still), Dataset.open(dataset_folder), tmp_path / "run")
    assert metrics["epochs"] < 9
    assert metrics["epochs"] == metrics["best_epoch"] + 2


def test_a_diverging_run_is_told_and_leaves_nothing(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"lower training\.learning_rate"):
        train(recipe(small_recipe, training={"learning_rate": 1e30}), Dataset.open(dataset_folder), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_leaves_the_older_one_as_it_was(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    train(recipe(small_recipe, training={"epochs": 1}), Dataset.open(dataset_folder), tmp_path / "run")
    before = (tmp_path / "run" / WEIGHTS).read_bytes()
    with pytest.raises(BadInput):
        train(recipe(small_recipe, training={"learning_rate": 1e30}), Dataset.open(dataset_folder), tmp_path / "run")
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_unknown_preset_is_one_sentence_and_leaves_nothing(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    wrong = recipe(small_recipe, features={"text": {"preset": "no_such_preset_at_all", "max_tokens": 12}})
    with pytest.raises(BadInput, match="'no_such_preset_at_all' is no text preset") as caught:
        train(wrong, Dataset.open(dataset_folder), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_projection_that_the_data_cannot_carry_stays_as_it_is(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = recipe(small_recipe, towers={"projection": "auto"}, training={"epochs": 1, "max_examples_per_user": 1})
    train(few, Dataset.open(dataset_folder), tmp_path / "run")
    assert "the text projection stays as it is" in capsys.readouterr().err
    run = Run.open(tmp_path / "run")
    content = run.model(prepare(run.training_data(), run.recipe).catalogue).content
    np.testing.assert_array_equal(content.change["text"].numpy(), 0)
