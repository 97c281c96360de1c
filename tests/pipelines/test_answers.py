from __future__ import annotations

import csv
import shutil
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.answers import recommend, score
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.prepare import prepare
from pipelines.run import Run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def read(dataset_folder: Path, run_folder: Path) -> dict[str, set[str]]:
    data = prepare(Dataset.open(dataset_folder), Run.open(run_folder).recipe)
    log = data.behaviour.interactions
    read = defaultdict(set)
    for user, item in zip(log.user, log.item, strict=True):
        read[str(log.user_ids[user])].add(str(data.catalogue.ids[item - 1]))
    return read


def test_every_impression_gets_a_score(run_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(dataset_folder)
    count = score(Run.open(run_folder), dataset, tmp_path / "scores.tsv")
    found = rows(tmp_path / "scores.tsv")
    requests = prepare(dataset, Run.open(run_folder).recipe).behaviour.requests
    expected = set(zip(np.repeat(requests.ids, np.diff(requests.offsets)), requests.item_ids, strict=True))
    assert count == len(found) == len(expected) == 3000
    assert {(row["request_id"], row["item_id"]) for row in found} == expected
    assert len({row["score"] for row in found}) > 100


def test_recommendations_are_ranked_and_leave_out_what_was_read(
    run_folder: Path, dataset_folder: Path, tmp_path: Path, read: dict[str, set[str]]
) -> None:
    recommend(Run.open(run_folder), Dataset.open(dataset_folder), tmp_path / "feed.tsv", k=5)
    by_user = defaultdict(list)
    for row in rows(tmp_path / "feed.tsv"):
        by_user[row["user_id"]].append(row)
    assert len(by_user) == 60
    for user, feed in by_user.items():
        assert [int(row["rank"]) for row in feed] == [1, 2, 3, 4, 5]
        values = [float(row["score"]) for row in feed]
        assert values == sorted(values, reverse=True)
        assert not {row["item_id"] for row in feed} & read[user]


def test_candidates_and_users_narrow_the_answer(
    run_folder: Path, dataset_folder: Path, tmp_path: Path, read: dict[str, set[str]]
) -> None:
    (tmp_path / "candidates").write_text("i01\ni02\ni03\nno such item\n")
    (tmp_path / "users").write_text("u07\nsomebody new\n")
    recommend(
        Run.open(run_folder),
        Dataset.open(dataset_folder),
        tmp_path / "feed.tsv",
        k=10,
        candidates=tmp_path / "candidates",
        users=tmp_path / "users",
    )
    found = rows(tmp_path / "feed.tsv")
    assert list(dict.fromkeys(row["user_id"] for row in found)) == ["u07", "somebody new"]
    assert {row["item_id"] for row in found} <= {"i01", "i02", "i03"}
    assert {row["item_id"] for row in found if row["user_id"] == "u07"} == {"i01", "i02", "i03"} - read["u07"]
    assert {row["item_id"] for row in found if row["user_id"] == "somebody new"} == {"i01", "i02", "i03"}


@pytest.mark.parametrize(("content", "message"), [("", "is empty"), ("nothing known\n", "none of its 1 items")])
def test_unusable_candidates_are_told(
    content: str, message: str, run_folder: Path, dataset_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "candidates").write_text(content)
    with pytest.raises(BadInput, match=message):
        recommend(
            Run.open(run_folder),
            Dataset.open(dataset_folder),
            tmp_path / "feed.tsv",
            k=3,
            candidates=tmp_path / "candidates",
        )
    assert not (tmp_path / "feed.tsv").exists()


def test_articles_newer_than_the_last_event_are_recommended_and_embargoed_ones_are_not(
    run_folder: Path, dataset_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset_folder, tmp_path / "data")
    table = pq.read_table(tmp_path / "data" / "items.parquet")
    when = [datetime(2025, 6, 1, tzinfo=UTC)] * 40 + [datetime(2999, 1, 1, tzinfo=UTC)] * 8
    column = table.schema.get_field_index("published_at")
    table = table.set_column(column, table.schema.field(column), pa.array(when, table.schema.field(column).type))
    pq.write_table(table, tmp_path / "data" / "items.parquet")
    recommend(Run.open(run_folder), Dataset.open(tmp_path / "data"), tmp_path / "feed.tsv", k=48)
    assert {row["item_id"] for row in rows(tmp_path / "feed.tsv")} == {f"i{number:02}" for number in range(40)}
