from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pipelines.export
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.export import export, versions
from pipelines.run import Run


def test_a_version_is_published_whole(model_folder: Path) -> None:
    assert [path.name for path in model_folder.iterdir()] == ["1"]
    assert (model_folder / "1" / "saved_model.pb").exists()


def test_signatures_are_the_four_of_the_design(model_folder: Path) -> None:
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
    history = ["history_age_seconds", "history_dwell_seconds", "history_ids", "language"]
    recommend = [sorted([*history, "exclude_ids"]), ["ids", "scores"]]
    assert json.loads(found.stdout) == {
        "recommend": recommend,
        "serving_default": recommend,
        "rank": [sorted([*history, "candidate_ids"]), ["scores"]],
        "embed_items": [["body", "category", "item_id", "language", "title"], ["embedding"]],
        "embed_users": [history, ["embedding"]],
    }


def test_the_next_export_is_the_next_version(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model" / "7").mkdir(parents=True)
    (tmp_path / "model" / "not a version").mkdir()
    assert export(Run.open(run_folder), tmp_path / "model").name == "8"
    assert versions(tmp_path / "model") == [7, 8]


def test_an_export_that_answers_differently_publishes_nothing(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pipelines.export.recommender

    def broken(*arguments: object) -> object:
        module = real(*arguments)  # type: ignore[arg-type]
        module.embeddings.assign(module.embeddings * 1.01)
        return module

    monkeypatch.setattr(pipelines.export, "recommender", broken)
    with pytest.raises(AssertionError, match="differs from the Python model"):
        export(Run.open(run_folder), tmp_path / "model")
    assert versions(tmp_path / "model") == []
    assert list((tmp_path / "model").iterdir()) == []


def test_infinite_weights_publish_nothing(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pipelines.export.recommender

    def broken(*arguments: object) -> object:
        module = real(*arguments)  # type: ignore[arg-type]
        module.embeddings.assign(module.embeddings * np.nan)
        return module

    monkeypatch.setattr(pipelines.export, "recommender", broken)
    with pytest.raises(AssertionError, match="not finite"):
        export(Run.open(run_folder), tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


def test_removed_items_are_not_in_the_index(run_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipelines.data.catalogue import Catalogue

    shutil.copytree(dataset_folder, tmp_path / "data")
    table = pq.read_table(tmp_path / "data" / "items.parquet")
    gone = pa.array(
        [table["published_at"][0].as_py()] + [None] * (len(table) - 1), table.schema.field("removed_at").type
    )
    table = table.set_column(table.schema.get_field_index("removed_at"), "removed_at", gone)
    pq.write_table(table, tmp_path / "data" / "items.parquet")
    dataset = Dataset.open(tmp_path / "data")
    assert len(Catalogue.load(dataset)) == len(table) - 1
    assert export(Run.open(run_folder), tmp_path / "model", dataset).name == "1"


def test_a_destination_that_is_a_file_is_refused(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(BadInput, match="is not a folder"):
        export(Run.open(run_folder), tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"
