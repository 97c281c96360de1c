"""The page of an evaluation, and where the command puts it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from pipelines.cli.app import run as belfry
from pipelines.evaluation_page import evaluation_page
from pipelines.run import EVALUATION_PAGE


@pytest.fixture
def run(ranked_run_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(ranked_run_folder, tmp_path / "run")
    return tmp_path / "run"


def test_the_page_is_in_the_run_and_can_be_made_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    assert belfry(["evaluate", str(run), "--out", str(tmp_path / "result.json")]) == 0
    assert f"page written to {run / EVALUATION_PAGE}" in capsys.readouterr().out
    assert {name: (run / name).stat().st_mtime_ns for name in before} == before
    result = json.loads((tmp_path / "result.json").read_text())
    page = (run / EVALUATION_PAGE).read_text(encoding="utf-8")
    assert page == evaluation_page(result)
    names = list(result["slates"]["metrics"])
    assert all(name in page for name in names)
    assert all(f"<td>{name}</td>" in page for name in result["slates"]["slices"])
    lead = result["slates"]["difference"]["popularity"]["auc"]
    assert f"{lead['mean']:+.4f} [{lead['low']:+.4f}, {lead['high']:+.4f}]" in page
    shown = sum(each["count"] for each in result["calibration"]["click"]["bins"])
    assert shown == sum(each["count"] for each in result["calibration"]["click"]["spread"])
    # The best of each metric stands first.
    first = page.index("Metrics: mean")
    order = sorted(names, key=lambda name: -result["slates"]["metrics"][name]["auc"]["mean"])
    places = [page.index(f"<td>{name}</td>", page.index("<tbody>", first)) for name in order]
    assert places == sorted(places)


def test_other_data_leaves_the_run_alone(
    run: Path, grown_dataset_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in run.iterdir())
    other = ["evaluate", str(run), "--data", str(grown_dataset_folder)]
    assert belfry(other) == 0
    assert "page written" not in capsys.readouterr().out
    assert belfry([*other, "--report", str(tmp_path / "pages" / "other.html")]) == 0
    assert (tmp_path / "pages" / "other.html").exists()
    assert sorted(path.name for path in run.iterdir()) == before
    assert belfry([*other, "--report", os.fspath(tmp_path)]) == 2
    assert "not a file" in capsys.readouterr().err
