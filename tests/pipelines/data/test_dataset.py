"""Opening and writing dataset folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data.dataset import INFO, Dataset, new_dataset
from pipelines.errors import BadInput

Make = Callable[..., Dataset]
EVENTS = [{"user_id": "u", "item_id": "i", "kind": "click", "at": 1}]
ITEMS = [{"item_id": "i"}]


@pytest.fixture
def folder(make_dataset: Make) -> Path:
    return make_dataset(EVENTS, ITEMS, [{"user_id": "u"}], name="mine").folder


def change_info(folder: Path, **values: Any) -> None:
    content = json.loads((folder / INFO).read_text()) | values
    (folder / INFO).write_text(json.dumps({name: value for name, value in content.items() if value != "absent"}))


def refusal(folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        Dataset.open(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_dataset_opens_from_a_path_or_a_string(folder: Path) -> None:
    for given in (folder, str(folder)):
        assert Dataset.open(given).info.name == "mine"
    Dataset.open(folder).verify()


def test_users_are_optional(folder: Path) -> None:
    assert Dataset.open(folder).users == folder / "users.parquet"
    (folder / "users.parquet").unlink()
    assert Dataset.open(folder).users is None


def test_a_folder_that_is_no_dataset_says_how_to_make_one(tmp_path: Path) -> None:
    assert "make one with `belfry data import`" in refusal(tmp_path)
    assert "make one with `belfry data import`" in refusal(tmp_path / "not there")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"items": 1' + b"0" * 5000 + b"}"])
def test_an_info_file_that_is_no_json_is_named(folder: Path, content: bytes) -> None:
    (folder / INFO).write_bytes(content)
    assert "dataset.json is not valid JSON" in refusal(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "absent"}, "dataset.json cannot be read (name: Field required)"),
        ({"items": "many"}, "dataset.json cannot be read (items: "),
        ({"clock": "sundial"}, "dataset.json cannot be read (clock: "),
        ({"surprise": 1}, "dataset.json cannot be read (surprise: "),
    ],
)
def test_a_broken_info_file_says_which_key(folder: Path, values: dict[str, Any], message: str) -> None:
    change_info(folder, **values)
    assert message in refusal(folder)


def test_an_info_file_that_is_a_list_is_bad_input(folder: Path) -> None:
    (folder / INFO).write_text("[]")
    assert "dataset.json cannot be read" in refusal(folder)


@pytest.mark.parametrize("name", ["items.parquet", "events.parquet"])
def test_a_missing_table_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert f"{name} is missing or broken: import the dataset again" in refusal(folder)


@pytest.mark.parametrize("name", ["items.parquet", "events.parquet", "users.parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"nothing of the kind, but longer than a footer"])
def test_a_table_that_is_no_parquet_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert f"{name} is missing or broken: import the dataset again" in refusal(folder)


def test_columns_of_another_schema_are_named(folder: Path) -> None:
    table = pq.read_table(folder / "events.parquet")
    pq.write_table(table.drop(["position"]), folder / "events.parquet")
    assert "events.parquet: column position is missing" in refusal(folder)
    at = table.schema.get_field_index("at")
    pq.write_table(table.set_column(at, "at", pa.array([1.0])), folder / "events.parquet")
    assert "events.parquet: column at is of type double, not timestamp[us, tz=UTC]" in refusal(folder)


def test_free_columns_of_users_are_welcome(folder: Path) -> None:
    table = pq.read_table(folder / "users.parquet").append_column("plan", pa.array(["gold"]))
    pq.write_table(table, folder / "users.parquet")
    Dataset.open(folder)


@pytest.mark.parametrize("name", ["items", "events", "users"])
def test_a_table_that_breaks_in_the_middle_opens_but_is_found(folder: Path, name: str) -> None:
    path = folder / f"{name}.parquet"
    content = bytearray(path.read_bytes())
    content[4:30] = b"\xff" * 26
    path.write_bytes(content)
    with pytest.raises(BadInput, match=f"{name}.parquet is broken"):
        Dataset.open(folder).verify()


def test_a_draft_that_is_no_dataset_is_not_published(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"events\.parquet is missing"):
        with new_dataset(tmp_path / "new") as draft:
            shutil.copy(folder / INFO, draft)
            shutil.copy(folder / "items.parquet", draft)
    assert list(tmp_path.iterdir()) == []


def test_only_a_dataset_is_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="is not empty"), new_dataset(tmp_path / "notes"):
        raise AssertionError("the block must not run")
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "years of work"
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / "users.parquet").unlink()
    with new_dataset(tmp_path / "old") as draft:
        shutil.copytree(folder, draft, dirs_exist_ok=True)
    assert Dataset.open(tmp_path / "old").users is not None
