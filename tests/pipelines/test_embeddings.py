"""Item embeddings as a file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import model_ranker
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.embeddings import FINGERPRINT, embed, embed_users, read_embeddings
from pipelines.errors import BadInput
from pipelines.prepare import prepare_for
from pipelines.presets import fingerprint_of
from pipelines.rankers import Queries
from pipelines.run import WEIGHTS, Run
from pipelines.trained import first_stage


def test_the_file_holds_what_the_first_stage_ranks_by(
    run_folder: Path, dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, dataset = Run.open(run_folder), Dataset.open(dataset_folder)
    expected = first_stage(run, prepare_for(run, dataset)).items
    monkeypatch.setattr(model_ranker, "ITEMS_AT_ONCE", 10)  # the last block is not full
    assert embed(run, tmp_path / "items.parquet") == 48
    table = pq.read_table(tmp_path / "items.parquet")
    assert table["item_id"].to_pylist() == list(Catalogue.load(dataset).ids)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 16)
    found = np.stack(table["embedding"].to_pylist()).astype(np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert table.schema.metadata[FINGERPRINT].decode() == fingerprint_of(run_folder / WEIGHTS)


def test_items_that_the_run_has_never_seen_are_embedded(run_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(dataset_folder, other)
    items = pq.read_table(other / "items.parquet").slice(0, 3)
    new = pa.array(["new 1", "i01", "new 2"])
    pq.write_table(items.set_column(0, items.schema.field("item_id"), new), other / "items.parquet")
    assert embed(Run.open(run_folder), tmp_path / "items.parquet", Dataset.open(other)) == 3
    table = pq.read_table(tmp_path / "items.parquet")
    assert table["item_id"].to_pylist() == ["i01", "new 1", "new 2"]
    assert np.isfinite(np.stack(table["embedding"].to_pylist())).all()


def test_a_folder_is_no_file_and_no_items_are_nothing(run_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a file"):
        embed(Run.open(run_folder), tmp_path)
    other = tmp_path / "other"
    shutil.copytree(dataset_folder, other)
    pq.write_table(pq.read_table(other / "items.parquet").slice(0, 0), other / "items.parquet")
    with pytest.raises(BadInput, match="has no item to embed"):
        embed(Run.open(run_folder), tmp_path / "items.parquet", Dataset.open(other))
    assert not (tmp_path / "items.parquet").exists()


def test_users_are_embedded_as_they_are_asked_for_at_the_end(
    run_folder: Path, dataset_folder: Path, tmp_path: Path
) -> None:
    run, dataset = Run.open(run_folder), Dataset.open(dataset_folder)
    data = prepare_for(run, dataset)
    log, towers = data.behaviour.interactions, first_stage(run, data)
    assert embed_users(run, tmp_path / "users.parquet") == len(log.user_ids)
    ids, vectors = read_embeddings(tmp_path / "users.parquet", run)
    assert list(ids) == list(log.user_ids)
    users = np.arange(len(ids))
    expected = towers.embed(Queries(users, log.user_offsets[1:], np.full(len(users), data.end)))
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_embeddings_of_another_model_are_refused(
    run_folder: Path, ranked_run_folder: Path, dataset_folder: Path, tmp_path: Path
) -> None:
    embed(Run.open(run_folder), tmp_path / "items.parquet")
    ids, vectors = read_embeddings(tmp_path / "items.parquet", Run.open(run_folder))
    assert vectors.shape == (len(ids), 16)
    with pytest.raises(BadInput, match="was made by another model"):
        read_embeddings(tmp_path / "items.parquet", Run.open(ranked_run_folder))
    with pytest.raises(BadInput, match="holds no embeddings"):
        read_embeddings(dataset_folder / "items.parquet", Run.open(run_folder))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match="cannot be read"):
        read_embeddings(tmp_path / "broken.parquet", Run.open(run_folder))
