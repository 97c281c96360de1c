"""Spark's workers write the embeddings that one process writes."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.cli.app import run as belfry
from pipelines.data.dataset import Dataset
from pipelines.embeddings import FINGERPRINT, embed
from pipelines.errors import BadInput
from pipelines.run import Run

# py4j leaves its sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def no_socket_is_left_to_other_tests() -> Iterator[None]:
    yield
    gc.collect()


def test_two_workers_embed_as_one_process_does(
    run_folder: Path, spark_master: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert embed(Run.open(run_folder), tmp_path / "local.parquet") == 48
    out = tmp_path / "spark.parquet"
    command = ["embed", str(run_folder), "--out", str(out), "--engine", "spark", "--master", spark_master, "--json"]
    assert belfry(command) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 48
    found, expected = pq.read_table(out), pq.read_table(tmp_path / "local.parquet")
    assert found.schema.equals(expected.schema, check_metadata=True)
    assert found["item_id"].equals(expected["item_id"])
    assert found.schema.metadata[FINGERPRINT]
    vectors = [np.stack(table["embedding"].to_pylist()) for table in (found, expected)]
    np.testing.assert_allclose(*vectors, atol=1e-5)


def test_a_worker_that_does_not_see_the_run_says_so(run_folder: Path, tmp_path: Path) -> None:
    """As when the folder is not shared: here the driver believes in weights that the workers do not find."""
    from pipelines.embed_spark import _embed_share

    dataset = Run.open(run_folder).training_data()
    batches = iter(pq.read_table(dataset.items).to_batches())
    share = _embed_share(batches, run_folder=str(run_folder), weights="other", info=dataset.info.model_dump_json())
    with pytest.raises(BadInput, match="holds another run than on the driver"):
        next(share)


def test_a_dataset_without_items_is_bad_input(run_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    from pipelines.embed_spark import embed_on_spark

    dataset = Dataset.open(dataset_folder)
    empty = dataclasses.replace(dataset, info=dataset.info.model_copy(update={"items": 0}))
    with pytest.raises(BadInput, match="has no item to embed"):
        embed_on_spark(Run.open(run_folder), tmp_path / "items.parquet", empty, master="local[1]")
