from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipelines.saved_model
from pipelines import export_check
from pipelines.answers import recommend
from pipelines.build import build_model
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.data.histories import load_behaviour
from pipelines.errors import BadInput
from pipelines.prepare import prepare_for
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.saved_model import export, versions
from pipelines.training import train
from towers.history_encoders import EncoderName


def test_a_version_is_published_whole(model_folder: Path) -> None:
    assert [path.name for path in model_folder.iterdir()] == ["1"]
    assert (model_folder / "1" / "saved_model.pb").exists()


def test_signatures_are_those_of_the_design_and_one_for_live_items(model_folder: Path) -> None:
    code = (
        "import json, sys, tensorflow as tf\n"
        "from serving.model_server.text_ops import register_text_ops\n"
        "register_text_ops()\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "print(json.dumps({k: [sorted(v.structured_input_signature[1]), sorted(v.structured_outputs)] "
        "for k, v in model.signatures.items()}))\n"
        "shapes = [s.shape[0] for v in model.signatures.values() for s in v.structured_input_signature[1].values()]\n"
        "assert set(shapes) == {None}, shapes"
    )
    plain = {name: value for name, value in os.environ.items() if "KERAS" not in name}
    command = [sys.executable, "-c", code, str(model_folder / "1")]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    assert found.returncode == 0, found.stderr
    history = ["device", "history_age_seconds", "history_dwell_seconds", "history_ids", "history_scroll_depth"]
    history += ["language", "time_seconds"]
    recommend = [sorted([*history, "exclude_ids"]), ["ids", "scores"]]
    live = ["live_category", "live_embeddings", "live_ids", "live_published_seconds", "live_tags"]
    assert json.loads(found.stdout) == {
        "recommend": recommend,
        "serving_default": recommend,
        "recommend_live": [sorted([*recommend[0], *live]), ["ids", "scores"]],
        "rank": [sorted([*history, "candidate_ids"]), ["scores"]],
        "embed_items": [["body", "category", "image", "item_id", "language", "tags", "title"], ["embedding"]],
        "embed_users": [history, ["embedding"]],
    }


@pytest.mark.usefixtures("loaded_here")
def test_the_next_export_is_the_next_version(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model" / "7").mkdir(parents=True)
    (tmp_path / "model" / "not a version").mkdir()
    assert export(Run.open(run_folder), tmp_path / "model").name == "8"
    assert versions(tmp_path / "model") == [7, 8]


@pytest.mark.parametrize("encoder", get_args(EncoderName))
@pytest.mark.usefixtures("loaded_here")
def test_every_history_encoder_trains_and_answers_alike_when_exported(
    encoder: str, dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    """`export` compares by itself and would raise."""
    recipe = Recipe.model_validate(
        small_recipe
        | {"features": {"text": None, "history": 8}, "data": {"split": {"by": "none"}}}
        | {"towers": {"width": 16, "history_units": 8, "history_encoder": encoder}}
        | {"training": {**small_recipe["training"], "epochs": 1, "batch_size": 128}}
    )
    train(recipe, Dataset.open(dataset_folder), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    catalogue = Catalogue.load(run.training_data())
    fresh = build_model(run.recipe, run.vocabulary, catalogue).behaviour.trainable_weights
    for new, old in zip(run.model(catalogue).behaviour.trainable_weights, fresh, strict=True):
        assert not np.array_equal(new.numpy(), old.numpy()), new.path
    assert export(run, tmp_path / "model").name == "1"


def test_the_check_asks_what_makes_every_input_count(run_folder: Path) -> None:
    run = Run.open(run_folder)
    data = prepare_for(run, run.training_data())
    model, batch = run.model(data.catalogue), export_check.some_batch(data.window, run.vocabulary)
    answer = model.embed_users(batch).numpy()
    for name, values in batch.items():
        silent = model.embed_users({**batch, name: np.zeros_like(values)}).numpy()
        assert np.abs(silent - answer).max() > 100 * export_check.TOLERANCE, name
    assert {0} < set(batch["device"]) == set(range(len(run.vocabulary.devices) + 1))
    assert {0} < set(batch["language"]) == set(range(len(run.vocabulary.languages) + 1))
    assert 0 in batch["time_seconds"]


@pytest.mark.usefixtures("loaded_here")
def test_an_export_that_answers_differently_publishes_nothing(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pipelines.saved_model.recommender

    def broken(*arguments: object, **settings: object) -> object:
        module = real(*arguments, **settings)  # type: ignore[arg-type]
        module.embeddings.assign(module.embeddings * 1.01)
        return module

    monkeypatch.setattr(pipelines.saved_model, "recommender", broken)
    with pytest.raises(AssertionError, match="differs from the Python model"):
        export(Run.open(run_folder), tmp_path / "model")
    assert versions(tmp_path / "model") == []
    assert list((tmp_path / "model").iterdir()) == []


def test_two_stages_are_one_graph_with_the_same_signatures(ranked_run_folder: Path, tmp_path: Path) -> None:
    # The check inside compares the order, the scores and the probabilities with the Python model's.
    version = export(Run.open(ranked_run_folder), tmp_path / "model")
    from towers.runtime import tf

    model = tf.saved_model.load(str(version))
    assert sorted(model.signatures["rank"].structured_outputs) == ["click", "like", "read", "scores"]
    assert sorted(model.signatures["recommend"].structured_outputs) == ["ids", "scores"]


@pytest.mark.usefixtures("loaded_here")
def test_a_second_stage_that_answers_differently_publishes_nothing(
    ranked_run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pipelines.saved_model.recommender

    def broken(*arguments: object, **settings: object) -> object:
        module = real(*arguments, **settings)  # type: ignore[arg-type]
        module.ranker.appeal.assign(module.ranker.appeal[::-1])
        return module

    monkeypatch.setattr(pipelines.saved_model, "recommender", broken)
    with pytest.raises(AssertionError, match="differs from the Python model"):
        export(Run.open(ranked_run_folder), tmp_path / "model")
    assert versions(tmp_path / "model") == []


@pytest.mark.usefixtures("loaded_here")
def test_infinite_weights_publish_nothing(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pipelines.saved_model.recommender

    def broken(*arguments: object, **settings: object) -> object:
        module = real(*arguments, **settings)  # type: ignore[arg-type]
        module.embeddings.assign(module.embeddings * np.nan)
        return module

    monkeypatch.setattr(pipelines.saved_model, "recommender", broken)
    with pytest.raises(AssertionError, match="not finite"):
        export(Run.open(run_folder), tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


def with_removed(dataset_folder: Path, copy: Path, removed: list[bool]) -> Dataset:
    shutil.copytree(dataset_folder, copy)
    table = pq.read_table(copy / "items.parquet")
    column = table.schema.get_field_index("removed_at")
    when = [table["published_at"][row].as_py() if gone else None for row, gone in enumerate(removed)]
    table = table.set_column(column, table.schema.field(column), pa.array(when, table.schema.field(column).type))
    pq.write_table(table, copy / "items.parquet")
    return Dataset.open(copy)


@pytest.mark.usefixtures("loaded_here")
def test_removed_items_stay_in_histories_and_are_not_recommended(
    run_folder: Path, dataset_folder: Path, tmp_path: Path
) -> None:
    dataset = with_removed(dataset_folder, tmp_path / "data", [row < 40 for row in range(48)])
    recommend(Run.open(run_folder), dataset, tmp_path / "feed.tsv", k=20)
    items = {line.split("\t")[1] for line in (tmp_path / "feed.tsv").read_text().splitlines()[1:]}
    assert items == {f"i{number}" for number in range(40, 48)}
    # The check inside compares ids and scores, so this also proves that the graph leaves them out.
    assert export(Run.open(run_folder), tmp_path / "model", dataset).name == "1"
    with_history = load_behaviour(dataset, Catalogue.load(dataset).ids).interactions
    assert len(with_history) == len(
        load_behaviour(Dataset.open(dataset_folder), Catalogue.load(dataset).ids).interactions
    )


def test_a_catalogue_with_nothing_on_offer_is_refused(run_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    dataset = with_removed(dataset_folder, tmp_path / "data", [True] * 48)
    with pytest.raises(BadInput, match="no item on offer"):
        export(Run.open(run_folder), tmp_path / "model", dataset)
    assert not (tmp_path / "model").exists()


def test_a_destination_that_is_a_file_is_refused(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(BadInput, match="is not a folder"):
        export(Run.open(run_folder), tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"
