"""Preparation on a standalone Spark master with two worker processes finds what DuckDB finds."""

from __future__ import annotations

import dataclasses
import gc
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.data import schema
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.data.engine import OpenEngine, choose_engine
from pipelines.data.histories import Behaviour, load_behaviour
from pipelines.errors import BadInput

Row = dict[str, Any]
Make = Callable[..., Dataset]


# py4j leaves its sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def no_socket_is_left_to_other_tests() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def on_spark(spark_master: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenEngine]:
    """One session for all: what takes long is to start it."""
    from pipelines.data.spark import spark_session

    with spark_session(tmp_path_factory.mktemp("driver"), spark_master):
        yield choose_engine("spark", spark_master)


def odd_log(seed: int, size: int) -> list[Row]:
    """Nulls, ties, repeated events, all kinds, shared request ids, moments before 1970, and strings that sort oddly."""
    rng = np.random.default_rng(seed)
    values: Row = {
        "user_id": ["a", "B", "é", "a ", "\U0001f600", "\uffff"],
        "item_id": ["i0", "i1", "i2", "i3", "not in the catalogue", "Ω"],
        "kind": ["impression", "impression", "impression", "click", *schema.KINDS],
        "at": [-1.5, 0, 1, 1.4, 1.6, 2, 3, 1e9],
        "request_id": [None, "r1", "r2", "r3", "e1"],
        "position": [None, 0, 1, 2],
        "dwell_seconds": [None, 0.0, 2.5, 40.0],
        "scroll_depth": [None, 0.0, 0.5, 0.1],
        "device": [None, None, "mobile", "desktop"],
        "value": [None, 2.0, 3.5, 5.0],
    }
    rows = [{name: some[rng.integers(len(some))] for name, some in values.items()} for _ in range(size)]
    return [*rows, *rows[: size // 4]]


def assert_equal(found: Behaviour, expected: Behaviour) -> None:
    assert found.unknown == expected.unknown
    for part in ("interactions", "requests"):
        ours, theirs = getattr(found, part), getattr(expected, part)
        for field in dataclasses.fields(ours):
            left, right = getattr(ours, field.name), getattr(theirs, field.name)
            assert left.dtype == right.dtype, field.name
            np.testing.assert_array_equal(left, right, err_msg=f"{part}.{field.name}")


def assert_engines_agree(dataset: Dataset, engine: OpenEngine, threshold: float | None = None) -> Behaviour:
    load = partial(load_behaviour, dataset, Catalogue.load(dataset).ids, positive_rating=threshold)
    expected = load()
    assert_equal(load(engine=engine), expected)
    return expected


def test_odd_events(on_spark: OpenEngine, make_dataset: Make) -> None:
    items = [{"item_id": f"i{number}"} for number in range(4)]
    dataset = make_dataset(odd_log(1, 400), items, [{"user_id": "é", "language": "fr"}, {"user_id": "B"}])
    found = assert_engines_agree(dataset, on_spark, 3.5)
    assert found.unknown
    assert len(found.requests)
    assert sorted(set(found.interactions.user_language)) == ["", "fr"]


def test_a_log_with_users_and_slates(on_spark: OpenEngine, dataset_folder: Path) -> None:
    found = assert_engines_agree(Dataset.open(dataset_folder), on_spark)
    assert set(found.interactions.user_language) == {"en", "de"}


def test_an_older_file_of_clicks_without_devices_users_or_slates(on_spark: OpenEngine, make_dataset: Make) -> None:
    rng = np.random.default_rng(3)
    clicks = [
        {"user_id": f"u{rng.integers(9)}", "item_id": f"i{rng.integers(6)}", "kind": "click", "at": 1}
        for _ in range(90)
    ]
    dataset = make_dataset(clicks, [{"item_id": "i1"}, {"item_id": "i2"}])
    pq.write_table(pq.read_table(dataset.events).drop(["device"]), dataset.events, row_group_size=7)
    found = assert_engines_agree(Dataset.open(dataset.folder), on_spark)
    assert not len(found.requests)


def test_a_broken_file_is_bad_input(on_spark: OpenEngine, make_dataset: Make) -> None:
    dataset = make_dataset([{"user_id": "a", "item_id": "i", "kind": "click", "at": 1}], [{"item_id": "i"}])
    content = bytearray(dataset.events.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[4:footer] = b"\xff" * (footer - 4)
    dataset.events.write_bytes(content)
    with pytest.raises(BadInput, match=r"events\.parquet is broken: import the dataset again"):
        load_behaviour(Dataset.open(dataset.folder), np.array(["i"], object), engine=on_spark)


def test_both_workers_take_part(on_spark: OpenEngine, tmp_path: Path) -> None:
    """An executor's Python processes have one parent, and a busy one leaves tasks to the other."""

    def whose(_: int) -> int:
        time.sleep(0.5)
        return os.getppid()

    with on_spark(tmp_path / "work") as engine:
        session = engine.session  # type: ignore[attr-defined]
        assert len(set(session.sparkContext.parallelize(range(8), 8).map(whose).collect())) == 2


def test_a_session_of_another_master_is_bad_input(on_spark: OpenEngine, dataset_folder: Path) -> None:
    with pytest.raises(BadInput, match=r"connected to spark://.* already"):
        load_behaviour(Dataset.open(dataset_folder), np.array([]), engine=choose_engine("spark", "local[2]"))


@pytest.mark.parametrize(("name", "master"), [("spark", None), ("duckdb", "local[2]"), ("hive", None)])
def test_an_engine_that_cannot_be_is_bad_input(name: str, master: str | None) -> None:
    with pytest.raises(BadInput, match="--engine"):
        choose_engine(name, master)
