from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.cli.app import run as belfry
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.exploration import explore
from pipelines.prepare import prepare
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.training import train


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def dropping(dataset_folder: Path, small_recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with dropout, of another seed."""
    out = tmp_path_factory.mktemp("runs") / "dropping"
    values = {
        **small_recipe,
        "towers": {**small_recipe["towers"], "dropout": 0.3},
        "training": {**small_recipe["training"], "epochs": 1, "seed": 8},
    }
    train(Recipe.model_validate(values), Dataset.open(dataset_folder), out)
    return out


def test_items_are_listed_from_the_command_line(
    run_folder: Path, dropping: Path, dataset_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = {}
    for by in ("entropy", "margin", "committee"):
        out = tmp_path / f"{by}.tsv"
        given = [str(run_folder), "--data", str(dataset_folder), "--by", by, "--k", "12", "--out", str(out)]
        given += ["--committee", str(dropping)] if by == "committee" else []
        assert belfry(["explore", *given, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["rows"] == 12
        assert said["among"] == 48
        lists[by] = found = rows(out)
        assert list(found[0]) == ["item_id", "score", "positives", "title"]
        scores = [float(row["score"]) for row in found]
        assert scores == sorted(scores, reverse=True)
        assert len({row["item_id"] for row in found}) == 12
    data = prepare(Dataset.open(dataset_folder), Run.open(run_folder).recipe)
    place = {item: row for row, item in enumerate(data.catalogue.ids)}
    count = np.bincount(data.behaviour.interactions.item, minlength=49)[1:]
    for row in lists["committee"]:
        assert int(row["positives"]) == count[place[row["item_id"]]]
        assert row["title"] == data.catalogue.title[place[row["item_id"]]]
    assert len({tuple(row["item_id"] for row in found) for found in lists.values()}) == 3


def test_users_are_listed(run_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    for by in ("entropy", "margin"):
        said = explore(
            Run.open(run_folder), Dataset.open(dataset_folder), tmp_path / by, what="users", by=by, k=1000, feed=3
        )
        found = rows(tmp_path / by)
        assert said["rows"] == len(found) == 60, "no more than there are"
        assert list(found[0]) == ["user_id", "score", "positives"]
        assert [float(row["score"]) for row in found] == sorted((float(row["score"]) for row in found), reverse=True)


def test_the_same_seed_gives_the_same_list(dropping: Path, dataset_folder: Path, tmp_path: Path) -> None:
    """By dropout, of a sample of users."""
    contents = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        explore(
            *(Run.open(dropping), Dataset.open(dataset_folder), tmp_path / name),
            what="items",
            by="committee",
            k=20,
            sample=20,
            seed=seed,
        )
        contents.append((tmp_path / name).read_text())
    assert contents[0] == contents[1] != contents[2]
    assert all(float(row["score"]) > 0 for row in rows(tmp_path / "a"))


def test_a_committee_of_the_same_run_twice_is_of_one_mind(
    run_folder: Path, dataset_folder: Path, tmp_path: Path
) -> None:
    run = Run.open(run_folder)
    explore(
        *(run, Dataset.open(dataset_folder), tmp_path / "list"),
        what="items",
        by="committee",
        k=50,
        committee=[run, run],
    )
    assert {row["score"] for row in rows(tmp_path / "list")} == {"0"}


def test_an_ensemble_is_asked_as_one(dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path) -> None:
    values = {
        **small_recipe,
        "towers": {**small_recipe["towers"], "dropout": 0.3},
        "training": {**small_recipe["training"], "epochs": 1},
        "ensemble": {"specialists": {"by": "language", "examples": 50}},
    }
    dataset = Dataset.open(dataset_folder)
    train(Recipe.model_validate(values), dataset, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    for what in ("items", "users"):
        assert explore(run, dataset, tmp_path / what, what=what, by="committee", k=5)["rows"] == 5
        assert all(float(row["score"]) > 0 for row in rows(tmp_path / what))


def test_what_is_off_offer_is_not_listed_and_look_alikes_only_once(
    run_folder: Path, dataset_folder: Path, tmp_path: Path
) -> None:
    import shutil

    import pyarrow as pa

    shutil.copytree(dataset_folder, tmp_path / "data")
    items = pq.read_table(tmp_path / "data" / "items.parquet")
    gone = [number % 3 == 0 for number in range(len(items))]
    first = Dataset.open(dataset_folder).info.first_at
    removed = pa.array([first if each else None for each in gone], items.schema.field("removed_at").type)
    index = items.schema.get_field_index("removed_at")
    pq.write_table(items.set_column(index, items.schema.field(index), removed), tmp_path / "data" / "items.parquet")
    dataset, run = Dataset.open(tmp_path / "data"), Run.open(run_folder)
    said = explore(run, dataset, tmp_path / "list", what="items", by="margin", k=100)
    left = {item for item, away in zip(items["item_id"].to_pylist(), gone, strict=True) if not away}
    assert {row["item_id"] for row in rows(tmp_path / "list")} == left
    assert said["among"] == len(left)
    few = explore(run, dataset, tmp_path / "few", what="items", by="margin", k=100, most_alike=0.5)
    assert 1 <= few["rows"] < len(left)
    assert rows(tmp_path / "few")[0] == rows(tmp_path / "list")[0]


def test_a_log_without_slates_has_margins_alone(run_folder: Path, make_dataset: Any, tmp_path: Path) -> None:
    events = [{"user_id": f"u{each % 3}", "item_id": f"i{each}", "kind": "click", "at": each} for each in range(9)]
    dataset = make_dataset(events, [{"item_id": f"i{each}", "title": "storm"} for each in range(9)])
    run = Run.open(run_folder)
    assert explore(run, dataset, tmp_path / "list", what="items", by="margin", k=4, feed=2)["rows"] == 4
    for by in ("entropy", "committee"):
        with pytest.raises(BadInput, match="no request with a click and an item left alone"):
            explore(run, dataset, tmp_path / "other", what="items", by=by, k=4)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"what": "pages"}, "--what is items or users, not 'pages'"),
        ({"by": "chance"}, "--by is entropy, margin or committee, not 'chance'"),
        ({"k": 0}, "--k must be 1 or more"),
        ({"sample": 0}, "--sample must be 1 or more"),
        ({"feed": 0}, "--feed must be 1 or more"),
        ({"most_alike": 1.5}, "--most-alike is a cosine between 0 and 1"),
        ({"by": "committee"}, "has no dropout to draw from"),
        ({"by": "entropy", "committee": True}, "--committee goes with --by committee"),
    ],
)
def test_bad_input_is_one_sentence(
    small_recipe: dict[str, Any],
    dataset_folder: Path,
    run_folder: Path,
    tmp_path: Path,
    given: dict[str, Any],
    said: str,
) -> None:
    run = Run.open(run_folder)
    still = {**small_recipe, "towers": {**small_recipe["towers"], "history_dropout": 0.0, "id_dropout": 0.0}}
    run = Run(run.folder, Recipe.model_validate(still), run.vocabulary, run.origin)
    if "committee" in given:
        given = {**given, "committee": [run]}
    with pytest.raises(BadInput, match=said):
        explore(
            *(run, Dataset.open(dataset_folder), tmp_path / "list"),
            **{"what": "items", "by": "margin", "k": 5, **given},
        )
    assert not list(tmp_path.iterdir())


def test_a_committee_shares_its_items(
    run_folder: Path, dataset_folder: Path, small_recipe: dict[str, Any], make_dataset: Any, tmp_path: Path
) -> None:
    events = [{"user_id": f"u{each % 4}", "item_id": f"i{each % 9}", "kind": "click", "at": each} for each in range(40)]
    other = make_dataset(events, [{"item_id": f"i{each}", "title": "storm"} for each in range(9)])
    values = {**small_recipe, "data": {"split": {"by": "none"}}}
    values["training"] = {**small_recipe["training"], "epochs": 1}
    train(Recipe.model_validate(values), other, tmp_path / "other")
    with pytest.raises(BadInput, match="was trained on other items"):
        explore(
            *(Run.open(run_folder), Dataset.open(dataset_folder), tmp_path / "list"),
            what="items",
            by="committee",
            k=5,
            committee=[Run.open(tmp_path / "other")],
        )
