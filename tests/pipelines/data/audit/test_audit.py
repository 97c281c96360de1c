"""The report of an audit: limits, skipped checks, sizes, and the recipe's split."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from pipelines.data.audit import AuditReport, audit
from pipelines.data.audit.advice import ADVICE
from pipelines.data.audit.concentration import gini
from pipelines.data.audit.drift import psi
from pipelines.data.audit.examples import Divided, divide
from pipelines.data.audit.tables import load_tables
from pipelines.data.audit.twins import twin_users
from pipelines.data.dataset import Dataset
from pipelines.data.engine import open_duckdb
from pipelines.errors import BadInput
from pipelines.metrics import wilson
from pipelines.prepare import prepare
from pipelines.recipe import Audit, Limit, Recipe

from .conftest import NOW, Plant, Tables


def placeholder(tables: Tables) -> None:
    tables["items"].loc[:40, "title"] = "Breaking news"


def severities(report: AuditReport) -> dict[str, str]:
    return {check.check: check.severity for check in report.findings}


def test_every_check_has_a_limit_and_advice() -> None:
    assert set(ADVICE) == set(Audit.model_fields)


def test_a_limit_in_the_recipe_makes_an_error_of_a_warning(plant: Plant) -> None:
    dataset = plant(placeholder)
    assert severities(audit(dataset, now=NOW)) == {"duplicate_titles": "warning"}
    strict = Recipe.model_validate({"audit": {"duplicate_titles": {"error": 0.1}}})
    report = audit(dataset, strict, now=NOW)
    assert severities(report) == {"duplicate_titles": "error"}
    assert not report.passed
    lax = audit(dataset, Recipe.model_validate({"audit": {"duplicate_titles": {"warning": 0.5}}}), now=NOW)
    assert lax.findings == []
    off = audit(dataset, Recipe.model_validate({"audit": {"duplicate_titles": None}}), now=NOW)
    assert off.findings == []
    assert off.result["skipped"] == {"duplicate_titles": "turned off in the recipe"}


def test_a_limit_that_names_one_severity_keeps_the_other() -> None:
    limits = Recipe.model_validate({"audit": {"drift_psi": {"error": 1.0}}}).audit
    assert limits.drift_psi == Limit(warning=0.25, error=1.0)
    assert Recipe.model_validate({"audit": {"drift_psi": {"warning": None}}}).audit.drift_psi == Limit()
    with pytest.raises(ValidationError, match="eror"):
        Recipe.model_validate({"audit": {"drift_psi": {"eror": 1.0}}})
    with pytest.raises(ValidationError, match="drift_phi"):
        Recipe.model_validate({"audit": {"drift_phi": {"error": 1.0}}})


def test_the_same_dataset_gives_the_same_files(clean: Dataset, clean_report: AuditReport, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    audit(clean, now=NOW, out=out)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    audit(clean, now=NOW, out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert set(first) == {"audit.json", "audit.html"}
    assert json.loads(first["audit.json"]) == json.loads(json.dumps(clean_report.result))


def test_somebody_elses_folder_is_refused_before_any_work(clean: Dataset, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match="not an earlier result"):
        audit(clean, now=NOW, out=tmp_path)


def test_a_log_without_times_is_told_so(make_dataset: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    events = [
        {"user_id": f"u{user}", "item_id": f"i{item}", "kind": "click", "at": 20 * place + user}
        for user in range(20)
        for place, item in enumerate(rng.permutation(30)[:15])
    ]
    items = [{"item_id": f"i{number}", "title": f"Title {number}"} for number in range(30)]
    report = audit(make_dataset(events, items, clock="row order"), now=NOW, out=tmp_path / "audit")
    assert report.findings == []
    why = "the dataset has no times: the order of its rows is the clock"
    assert {check for check, reason in report.result["skipped"].items() if reason == why} >= {
        *("before_1990", "after_now", "time_gaps", "before_publication", "duplicate_events", "drift_psi", "split_order")
    }


@pytest.mark.parametrize("events", [[], [{"user_id": "u", "item_id": "i", "kind": "click", "at": 10**9}]])
def test_next_to_nothing_is_audited_too(make_dataset: Any, events: list[dict[str, Any]], tmp_path: Path) -> None:
    report = audit(make_dataset(events, [{"item_id": "i"}]), now=NOW, out=tmp_path / "audit")
    assert {check.check for check in report.findings} <= {"no_positives", "split_empty", "unused_items"}


def test_since_chooses_the_windows(clean: Dataset) -> None:
    since = datetime(2025, 3, 10, tzinfo=UTC)
    drift = audit(clean, since=since, now=NOW).result["drift"]
    assert drift["border"] == "2025-03-10T00:00:00+00:00"
    (kinds,) = [column for column in drift["columns"] if column["column"] == "kind"]
    assert sum(kinds["rows"]) == clean.info.events


def test_slices_add_up(clean: Dataset, clean_report: AuditReport) -> None:
    slices = clean_report.result["slices"]
    for name in ("language", "category", "popularity", "tenure", "device", "kind"):
        assert sum(row["events"] for row in slices[name]) == clean.info.events, name
    head, tail = sorted(slices["popularity"], key=lambda row: row["value"])
    positives = head["positives"] + tail["positives"]
    assert abs(head["positives"] / positives - 0.5) < 0.05
    assert head["items"] < tail["items"]
    by_position = clean_report.result["positions"]
    shown = sum(row["impressions"] for row in by_position)
    assert shown == clean_report.result["columns"]["events"]["position"]["expected"]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"split": {"by": "last"}},
        {"split": {"by": "time", "validation": 0.0, "test": 0.3}, "examples": "interactions"},
        {"split": {"by": "last"}, "examples": "interactions"},
        {"split": {"by": "random"}, "examples": "interactions"},
        {"split": {"by": "none"}},
    ],
)
def test_the_split_that_is_checked_is_the_one_that_is_trained_on(
    clean: Dataset, data: dict[str, Any], tmp_path: Path
) -> None:
    recipe = Recipe.model_validate({"data": data})
    prepared = prepare(clean, recipe)
    with open_duckdb(tmp_path / "work") as engine:
        divided = divide(load_tables(engine, clean, None), recipe)
    assert isinstance(divided, Divided)
    np.testing.assert_array_equal(divided.parts.interactions, prepared.parts.interactions)
    np.testing.assert_array_equal(divided.parts.requests, prepared.parts.requests)
    np.testing.assert_array_equal(divided.behaviour.interactions.at, prepared.behaviour.interactions.at)


def test_a_random_split_of_a_log_with_times_is_told_apart(clean: Dataset) -> None:
    random = Recipe.model_validate({"data": {"split": {"by": "random"}, "examples": "interactions"}})
    assert severities(audit(clean, random, now=NOW)) == {"split_order": "warning"}


def test_sizes_of_drift_and_concentration() -> None:
    same = np.array([10.0, 20, 30])
    assert psi(same, 7 * same) == pytest.approx(0)
    # By hand: (0.4 - 0.5) ln(0.4 / 0.5) + (0.6 - 0.5) ln(0.6 / 0.5)
    assert psi(np.array([50.0, 50]), np.array([40.0, 60])) == pytest.approx(0.1 * np.log(1.25) + 0.1 * np.log(1.2))
    assert psi(np.array([50.0, 0]), np.array([0.0, 50])) > 5
    assert gini(np.full(8, 3)) == pytest.approx(0)
    assert gini(np.array([0] * 99 + [7])) == pytest.approx(0.99)
    assert gini(np.array([1, 3])) == pytest.approx(0.25)
    low, high = wilson(0, 10)
    assert low == 0
    assert 0.2 < high < 0.35


def test_twins_are_users_with_nearly_the_same_items() -> None:
    rng = np.random.default_rng(2)
    items = [rng.choice(1_000, 20, replace=False) for _ in range(40)]
    items += [items[0], np.r_[items[1][:-1], 999], items[2][:9]]  # the same, nearly, and too few
    user = np.repeat(np.arange(len(items)), [len(each) for each in items])
    assert twin_users(user, np.concatenate(items)) == (42, 4)
    assert twin_users(np.zeros(0, int), np.zeros(0, int)) == (0, 0)


@pytest.mark.parametrize(
    "split",
    [{"by": "users"}, {"by": "time", "folds": 3, "fold": 1}, {"by": "items"}, {"by": "language", "language": "de"}],
)
def test_every_split_of_a_recipe_is_audited_or_left_out_with_a_reason(clean: Dataset, split: dict[str, Any]) -> None:
    report = audit(clean, Recipe.model_validate({"data": {"split": split}}), now=NOW)
    assert not [check for check in report.findings if check.check.startswith("split")]
    assert ("split_order" in report.result["skipped"]) == (split["by"] in ("items", "language"))


def test_numbers_that_are_none_are_out_of_range_and_break_nothing(clean: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(clean.folder, folder)
    events = pq.read_table(folder / "events.parquet")
    place = events.schema.get_field_index("dwell_seconds")
    dwell = events["dwell_seconds"].to_pylist()
    strange = [float("nan"), float("inf"), float("-inf")] * 200
    dwell[: len(strange)] = strange
    events = events.set_column(place, events.schema.field(place), pa.array(dwell, pa.float32()))
    pq.write_table(events, folder / "events.parquet")
    report = audit(Dataset.open(folder), now=NOW, out=tmp_path / "audit")
    assert [(check.check, check.subject) for check in report.findings] == [("out_of_range", "events.dwell_seconds")]
    assert report.findings[0].value * report.result["columns"]["events"]["dwell_seconds"]["given"] == pytest.approx(600)


def test_a_row_without_an_id_or_a_time_is_an_error(clean: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(clean.folder, folder)
    events = pq.read_table(folder / "events.parquet")
    for name in ("user_id", "at"):
        place = events.schema.get_field_index(name)
        values = [None, *events[name].to_pylist()[1:]]
        kind = events.schema.field(place).type
        events = events.set_column(place, pa.field(name, kind), pa.array(values, kind))
    pq.write_table(events, folder / "events.parquet")
    report = audit(Dataset.open(folder), now=NOW)
    assert [(check.check, check.subject) for check in report.findings] == [
        ("missing_ids", "events.at"),
        ("missing_ids", "events.user_id"),
    ]


def test_a_broken_file_is_bad_input(clean: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(clean.folder, folder)
    content = bytearray((folder / "events.parquet").read_bytes())
    content[1000:20_000] = bytes(19_000)
    (folder / "events.parquet").write_bytes(content)
    with pytest.raises(BadInput, match="is broken"):
        audit(Dataset.open(folder), now=NOW)
