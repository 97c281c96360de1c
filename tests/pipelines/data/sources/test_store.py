"""From a dataset into a store of either kind, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from pipelines.data.dataset import Dataset
from pipelines.data.sources.store import import_store
from pipelines.errors import BadInput
from pipelines.recipe import Recipe
from pipelines.store_filling import fill_store
from pipelines.training import train
from serving.events import EventLog, SlateLog, Store
from serving.events.items import put_items, remove_item


def test_a_dataset_comes_back_as_it_was(dataset_folder: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(dataset_folder)
    done = fill_store(dataset, tmp_path / "store")
    assert done == {"items": 48, "events": dataset.info.events, "new_events": dataset.info.events}
    assert fill_store(dataset, tmp_path / "store")["new_events"] == 0
    report = import_store(tmp_path / "store", tmp_path / "back")
    back = Dataset.open(tmp_path / "back")
    assert report.tables["events"].kept == dataset.info.events
    assert "slates" not in report.tables
    for table in ("items", "events"):
        key = f"{table[:-1]}_id"
        expected, found = (
            pq.read_table(getattr(each, table)).sort_by(key).combine_chunks() for each in (dataset, back)
        )
        assert found.equals(expected)


def test_slates_become_impressions(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        put_items(store, [{"item_id": "a", "title": "A"}, {"item_id": "b", "title": "B"}], 1)
        slates, log = SlateLog(store), EventLog(store)
        for request in ("r1", "r2"):
            slate: dict[str, Any] = {"request_id": request, "user_id": "u", "at": 5_000_000, "placement": "home"}
            items = [["a", 1.5, 0, 1.0, "New"], ["b", 0.5, 1, 0.25, ""]]
            slate |= {"variant": "control", "device": "tablet", "items": orjson.dumps(items).decode()}
            slates.append(slate).result(10)
        common = {"user_id": "u", "item_id": "a", "at": 6_000_000}
        log.append(
            [
                common | {"event_id": "e1", "kind": "click", "request_id": "r1"},
                # Of r2 the application says itself what was seen.
                common | {"event_id": "e2", "kind": "impression", "request_id": "r2", "position": 0},
            ]
        ).result(10)
        slates.close()
        log.close()
    report = import_store(tmp_path / "store", tmp_path / "data")
    assert report.tables["slates"].dropped == {"the application reported the request's impressions itself": 2}
    found = {row["event_id"]: row for row in pq.read_table(tmp_path / "data" / "events.parquet").to_pylist()}
    assert found.keys() == {"e1", "e2", "r1/0", "r1/1"}
    shown = found["r1/1"]
    assert (shown["item_id"], shown["position"], shown["propensity"]) == ("b", 1, 0.25)
    assert (shown["variant"], shown["device"], shown["kind"]) == ("control", "tablet", "impression")


def test_what_was_served_trains_and_says_who_answered(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    """Slates of two variants and of a fallback, and an item that was taken off offer without ever being stored."""
    fill_store(Dataset.open(dataset_folder), tmp_path / "store")
    answers: dict[str, tuple[str, int | None, str | None]] = {
        "r-blue": ("blue", 3, None),
        "r-green": ("green", 4, None),
        "r-late": ("blue", None, "trending"),
    }
    with Store(tmp_path / "store") as store:
        remove_item(store, "unheard of", 1)
        slates = SlateLog(store)
        for place, (request, (variant, version, fallback)) in enumerate(answers.items()):
            slate = {"request_id": request, "user_id": "u1", "at": 1_740_000_000_000_000 + place, "placement": "home"}
            slate |= {"model": "feed", "version": version, "variant": variant, "fallback": fallback}
            items = [[f"i{number:02}", 1.0, number, 1.0, ""] for number in range(4)]
            slates.append(slate | {"items": orjson.dumps(items).decode()}).result(10)
        slates.close()
    report = import_store(tmp_path / "store", tmp_path / "data")
    assert report.tables["slates"].kept == 12
    back = Dataset.open(tmp_path / "data")
    assert back.slates is not None
    told = {row["request_id"]: row for row in pq.read_table(back.slates).to_pylist()}
    assert {key: (row["variant"], row["version"], row["fallback"]) for key, row in told.items()} == answers
    shown = {row["request_id"] for row in pq.read_table(back.events).to_pylist() if row["event_id"].startswith("r-")}
    assert shown == told.keys()
    import_store(tmp_path / "store", tmp_path / "data")  # in its own place

    recipe = Recipe.model_validate(small_recipe | {"training": small_recipe["training"] | {"epochs": 1}})
    train(recipe, back, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").exists()


def test_no_store_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a store"):
        import_store(tmp_path / "nothing", tmp_path / "data")
    Store(tmp_path / "empty").close()
    with pytest.raises(BadInput, match="Not one usable event"):
        import_store(tmp_path / "empty", tmp_path / "data")
    assert not (tmp_path / "data").exists()
