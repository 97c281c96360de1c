"""Searches of a real recipe on a real dataset, in real worker processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.artefacts import read_json
from pipelines.cli.app import run as belfry
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput, Stopped
from pipelines.recipe import Recipe
from pipelines.training import train
from pipelines.tuning.search import Search
from pipelines.tuning.tune import FILES, tune
from pipelines.unfinished import partial_of

SEARCH = {
    "training.learning_rate": {"low": 1e-3, "high": 3e-2, "scale": "log"},
    "towers.history_encoder": ["gru", "mean"],
}


def _recipe(small: dict[str, Any], search: dict[str, Any], **training: Any) -> Recipe:
    return Recipe.model_validate(
        {**small, "training": {**small["training"], "epochs": 2, **training}, "search": search}
    )


@pytest.fixture(scope="module")
def searched(dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of three trials of which the second cannot be trained."""
    out = tmp_path_factory.mktemp("tuning") / "search"
    # Training diverges at the larger rates.
    search = {"training.learning_rate": [0.02, 1e30, 0.01]}
    tune(_recipe(plain_recipe, search), Dataset.open(dataset_folder), out, algorithm="grid", trials=5)
    return out


def test_what_is_written_is_complete_and_agrees(searched: Path) -> None:
    assert sorted(path.name for path in searched.iterdir()) == sorted(FILES)
    result = read_json(searched / "tuning.json")
    assert (result["completed"], result["failed"], result["complete"]) == (2, 1, True)
    assert [trial["status"] for trial in result["trials"]] == ["completed", "completed", "failed"]
    with (searched / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
    for row, trial in zip(rows[1:], result["trials"], strict=True):
        assert float(row["auc"] or "nan") == pytest.approx(trial["score"] or float("nan"), nan_ok=True)
    assert not partial_of(searched).exists()


def test_a_failed_trial_is_shown_and_says_why(searched: Path) -> None:
    result = read_json(searched / "tuning.json")
    (failed,) = (trial for trial in result["trials"] if trial["status"] == "failed")
    assert failed["values"] == {"training.learning_rate": 1e30}
    assert "diverged" in failed["message"]
    assert failed["message"] in (searched / "report.html").read_text()


def test_the_recipe_as_it_is_is_not_trained_twice(searched: Path) -> None:
    result = read_json(searched / "tuning.json")
    own = result["trials"][0]
    assert own["values"] == {"training.learning_rate": 0.01}
    assert own["same_as"] == -1
    assert own["score"] == result["default"]["score"]
    assert own["lead"] == [0, 0, 0]


def test_the_recipe_found_trains_to_what_the_search_measured(
    searched: Path, dataset_folder: Path, tmp_path: Path
) -> None:
    result = read_json(searched / "tuning.json")
    metrics = train(Recipe.load(searched / "recipe.yaml"), Dataset.open(dataset_folder), tmp_path / "run")
    chosen = result["best"] if result["better"] else result["default"]
    assert metrics["validation"]["by_epoch"] == pytest.approx(chosen["by_epoch"], abs=1e-6)
    assert max(metrics["validation"]["by_epoch"]) == pytest.approx(chosen["score"], abs=1e-6)
    assert "Found by belfry tune" in (searched / "recipe.yaml").read_text()


def test_the_page_shows_every_key_and_fetches_nothing(searched: Path) -> None:
    text = (searched / "report.html").read_text()
    assert "training.learning_rate" in text
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_finished_search_takes_more_trials(
    searched: Path, dataset_folder: Path, plain_recipe: dict[str, Any]
) -> None:
    before = read_json(searched / "tuning.json")
    recipe = _recipe(plain_recipe, {"training.learning_rate": [0.02, 1e30, 0.01]})
    result = tune(recipe, Dataset.open(dataset_folder), searched, algorithm="grid", trials=6, resume=True)
    assert result["trials"] == before["trials"]
    first, *rows = result.rows()
    assert (first["trial"], first["lead_mean"], first["training.learning_rate"]) == (0, None, None)
    for row, trial in zip(rows, result["trials"], strict=True):
        assert row["training.learning_rate"] == trial["values"]["training.learning_rate"]
        assert [row["lead_mean"], row["lead_low"], row["lead_high"]] == (trial["lead"] or [None] * 3)
        assert row["epochs"] == (len(trial["by_epoch"]) - 1 if trial["status"] == "completed" else None)
    with pytest.raises(BadInput, match="grid with seed 3"):
        tune(recipe, Dataset.open(dataset_folder), searched, algorithm="random", resume=True)
    other = _recipe(plain_recipe, {"training.learning_rate": [0.02, 0.01]})
    with pytest.raises(BadInput, match="other recipe"):
        tune(other, Dataset.open(dataset_folder), searched, algorithm="grid", resume=True)


def test_a_search_without_a_completed_trial_fails(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe = _recipe(plain_recipe, {"training.learning_rate": [1e30, 1e31]}, epochs=1)
    out = tmp_path / "out"
    with pytest.raises(BadInput, match=r"none of 2 trials was completed.*diverged"):
        tune(recipe, Dataset.open(dataset_folder), out, algorithm="random", trials=2)
    assert not out.exists()
    assert not partial_of(out).exists()


def test_a_recipe_without_a_validation_part_is_refused(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path
) -> None:
    values = {**plain_recipe, "data": {"split": {"by": "time", "validation": 0.0, "test": 0.2}}}
    recipe = _recipe(values, SEARCH)
    with pytest.raises(BadInput, match="validation part to choose by"):
        tune(recipe, Dataset.open(dataset_folder), tmp_path / "out")
    assert not partial_of(tmp_path / "out").exists()


def _events(out: Path) -> list[dict[str, Any]]:
    path = partial_of(out) / "search.json"
    return read_json(path)["events"] if path.exists() else []


def test_a_killed_search_goes_on_and_one_whose_worker_dies_too(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path
) -> None:
    """Killed with 9 in the second trial, resumed with a worker that is killed: nothing finished is tried again."""
    recipe = _recipe(plain_recipe, SEARCH, epochs=4)
    path, out, whole = tmp_path / "recipe.yaml", tmp_path / "out", tmp_path / "whole"
    path.write_text(recipe.dump())
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "tune", str(path)]
    command += ["--data", str(dataset_folder), "--search", "random", "--trials", "3"]

    def start(*more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, "--out", str(out), *more], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def workers_of(process: subprocess.Popen[str]) -> list[int]:
        found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [int(pid) for pid in found]

    def until(told: int, checkpoint: str, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 240
        file = partial_of(out) / "checkpoints" / checkpoint
        while sum("told" in event for event in _events(out)) < told or not file.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    first = start()
    until(1, "trial-0002-towers.npz", first)
    (worker,) = workers_of(first)
    first.kill()
    first.communicate()
    finished = [event for event in _events(out) if "told" in event]
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{worker}/status") and "Z (zombie)" not in Path(f"/proc/{worker}/status").read_text():
        assert time.monotonic() < deadline, "the worker outlives the search"
        time.sleep(0.1)

    assert belfry([*command[3:], "--out", str(out)]) == 2  # there is something to resume
    second = start("--resume", "--json")
    until(2, "trial-0003-towers.npz", second)
    (worker,) = workers_of(second)
    os.kill(worker, signal.SIGKILL)
    output, told = second.communicate()
    assert second.returncode == 0, told
    result = json.loads(output)
    assert [trial["status"] for trial in result["trials"]] == ["completed", "completed", "failed"]
    assert "killed by signal 9" in result["trials"][2]["message"]
    assert read_json(out / "search.json")["events"][: len(finished)] == _events_of(out)[: len(finished)]
    # The first trial is not run again, and the second ends as if nothing had happened.
    assert "trial 1 of 3:" not in told
    assert "going on after epoch" in told
    expected = tune(recipe, Dataset.open(dataset_folder), whole, algorithm="random", trials=2)
    for trial, other in zip(result["trials"], expected["trials"], strict=False):
        assert {**trial, "seconds": 0} == {**other, "seconds": 0}
    assert yaml.safe_load((out / "recipe.yaml").read_text()) == yaml.safe_load((whole / "recipe.yaml").read_text())


def _events_of(out: Path) -> list[dict[str, Any]]:
    return read_json(out / "search.json")["events"]


def test_two_workers_and_a_bound_in_time(dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe, data, out = _recipe(plain_recipe, SEARCH), Dataset.open(dataset_folder), tmp_path / "out"
    with pytest.raises(Stopped, match="no trial was completed in 0 minutes"):
        tune(recipe, data, out, algorithm="hyperband", trials=4, minutes=0)
    result = tune(recipe, data, out, algorithm="hyperband", trials=4, workers=2, resume=True)
    assert (result["completed"], result["failed"]) == (4, 0)
    assert max(trial["epochs"] for trial in result["trials"]) == 2


def test_what_was_begun_when_time_was_over_is_kept(
    dataset_folder: Path,
    plain_recipe: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Time is over in the first epoch of the first trial, after the recipe as it is."""
    recipe, data, out = _recipe(plain_recipe, SEARCH), Dataset.open(dataset_folder), tmp_path / "out"
    begin = Search._begin

    def begin_late(self: Search, place: int, proposal: Any) -> None:
        self._until = time.time()
        begin(self, place, proposal)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match=r"in 60 minutes: go on with --resume"):
        patch.setattr(Search, "_begin", begin_late)
        tune(recipe, data, out, algorithm="random", trials=1, minutes=60)
    assert read_json(partial_of(out) / "search.json")["default"]["status"] == "completed"
    assert not out.exists()
    capfd.readouterr()
    result = tune(recipe, data, out, algorithm="random", trials=1, resume=True)
    told = capfd.readouterr().err
    assert "the recipe as it is:" not in told
    assert "going on after epoch 1" in told
    assert (result["completed"], result["complete"]) == (1, True)
    assert not partial_of(out).exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--search", "best"], "--search is random, grid, bayesian or hyperband"),
        (["--trials", "0"], "trials"),
        (["--engine", "spark"], "--engine spark goes with --master URL"),
    ],
)
def test_bad_arguments_are_one_sentence(
    arguments: list[str], says: str, dataset_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("{}")
    command = ["tune", str(path), "--data", str(dataset_folder), "--out", str(tmp_path / "out"), *arguments]
    assert belfry(command) == 2
    assert says in capsys.readouterr().err
