"""A training run that was stopped goes on as if it had not been."""

from __future__ import annotations

import csv
import fcntl
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines import fit as fitting
from pipelines.cli.app import run as belfry
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.prepare import prepare
from pipelines.recipe import Recipe
from pipelines.run import HISTORY, LOGS, METRICS, Run
from pipelines.training import train
from pipelines.unfinished import partial_of


class Stopped(Exception):
    """As a kill would, but in this process."""


def stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let `after` epochs pass, and stop in the middle of the next."""
    train_epoch, left = fitting.train_epoch, [after]

    def stop(*given: Any) -> float:
        left[0] -= 1
        loss = train_epoch(*given)
        if left[0] < 0:
            raise Stopped
        return loss

    monkeypatch.setattr(fitting, "train_epoch", stop)


def same_weights(left: Path, right: Path) -> bool:
    runs = [Run.open(left), Run.open(right)]
    catalogue = prepare(runs[0].training_data(), runs[0].recipe).catalogue
    pairs = zip(*(run.model(catalogue).get_weights() for run in runs), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_stopped_run_ends_like_one_that_was_not(
    dataset_folder: Path,
    small_recipe: dict[str, Any],
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epochs: int,
) -> None:
    recipe, out = Recipe.model_validate(small_recipe), tmp_path / "run"
    with monkeypatch.context() as patch:
        stopping(patch, epochs)
        with pytest.raises(Stopped):
            train(recipe, Dataset.open(dataset_folder), out)
    assert not out.exists()
    metrics = train(recipe, Dataset.open(dataset_folder), out, resume=True)
    assert metrics == json.loads((run_folder / METRICS).read_text())
    assert same_weights(out, run_folder)
    assert not partial_of(out).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def whole(small_recipe: dict[str, Any]) -> Recipe:
    """Every stage that trains: a thawing encoder, a domain head, specialists, crosses, and all of it once more."""
    return Recipe.model_validate(
        {
            **small_recipe,
            # The plainest history encoder: its graph is traced anew in each of the many fits.
            "towers": {**small_recipe["towers"], "history_encoder": "mean", "dropout": 0.3, "id_dropout": 0.3},
            "training": {**small_recipe["training"], "epochs": 2, "refit": True},
            # Thawed from the first epoch on, so that one begins with vectors that another has renewed.
            "fine_tuning": {"stages": [{"epoch": 1, "layers": [0]}], "learning_rate": 1e-3, "warmup_steps": 2},
            "adaptation": {"domain": "language"},
            "ensemble": {"specialists": {"by": "language", "examples": 50}},
            "ranking": {"crosses": 1, "projection": 4, "epochs": 2, "retrieve": 20},
        }
    )


def test_every_stage_can_be_stopped(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data = whole(small_recipe), Dataset.open(dataset_folder)
    expected = train(recipe, data, tmp_path / "whole")
    with (tmp_path / "whole" / HISTORY).open() as file:
        fits = {row["fit"] for row in csv.DictReader(file)}
    assert {"towers", "specialist-0", "specialist-1", "refit-towers"} <= fits
    out, stops = tmp_path / "stopped", 0
    while not out.exists():
        with monkeypatch.context() as patch:
            stopping(patch, 3)
            try:
                metrics = train(recipe, data, out, resume=True)
            except Stopped:
                stops += 1
    assert stops >= 2
    assert metrics == expected
    assert same_weights(out, tmp_path / "whole")


def command(recipe: Path, data: Path, out: Path) -> list[str]:
    program = "from pipelines.cli import main; main()"
    return [sys.executable, "-c", program, "train", str(recipe), "--data", str(data), "--out", str(out), "--resume"]


def test_killed_with_9_at_random_moments(
    dataset_folder: Path, small_recipe: dict[str, Any], run_folder: Path, tmp_path: Path
) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump(small_recipe))
    rng, kills = np.random.default_rng(9), 0
    for _ in range(2):
        process = subprocess.Popen(command(recipe, dataset_folder, out), stderr=subprocess.DEVNULL)
        checkpoint = partial_of(out) / "checkpoints" / "towers.npz"
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(rng.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills
    subprocess.run(command(recipe, dataset_folder, out), check=True, stderr=subprocess.DEVNULL)
    assert json.loads((out / METRICS).read_text()) == json.loads((run_folder / METRICS).read_text())


@pytest.fixture
def stopped(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Where a run is to be that was stopped in its second epoch."""
    with monkeypatch.context() as patch:
        stopping(patch, 1)
        with pytest.raises(Stopped):
            train(Recipe.model_validate(small_recipe), Dataset.open(dataset_folder), tmp_path / "run")
    return tmp_path / "run"


def test_what_can_be_resumed_is_not_thrown_away(
    dataset_folder: Path, small_recipe: dict[str, Any], stopped: Path
) -> None:
    recipe, data = Recipe.model_validate(small_recipe), Dataset.open(dataset_folder)
    with pytest.raises(BadInput, match="go on with --resume"):
        train(recipe, data, stopped)
    other = recipe.model_copy(update={"training": recipe.training.model_copy(update={"seed": 4})})
    with pytest.raises(BadInput, match="begun with other recipe"):
        train(other, data, stopped, resume=True)
    with (partial_of(stopped) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BadInput, match="by another process"):
            train(recipe, data, stopped, resume=True)
    assert (partial_of(stopped) / "checkpoints" / "towers.npz").exists()


def test_a_broken_checkpoint_is_one_sentence(dataset_folder: Path, small_recipe: dict[str, Any], stopped: Path) -> None:
    checkpoint = partial_of(stopped) / "checkpoints" / "towers.npz"
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(BadInput, match="cannot be read"):
        train(Recipe.model_validate(small_recipe), Dataset.open(dataset_folder), stopped, resume=True)
    assert checkpoint.exists()


def test_a_finished_run_is_left_as_it_is(
    dataset_folder: Path, small_recipe: dict[str, Any], run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run_folder / METRICS).stat().st_mtime_ns
    metrics = train(Recipe.model_validate(small_recipe), Dataset.open(dataset_folder), run_folder, resume=True)
    assert metrics == json.loads((run_folder / METRICS).read_text())
    assert (run_folder / METRICS).stat().st_mtime_ns == before
    assert "finished already" in capsys.readouterr().err


def test_nothing_is_left_of_a_run_that_cannot_be(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe = Recipe.model_validate({**small_recipe, "training": {"learning_rate": 1e30, "epochs": 2}})
    with pytest.raises(BadInput, match="diverged"):
        train(recipe, Dataset.open(dataset_folder), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_the_course_of_training_is_in_csv_and_tensorboard(run_folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = json.loads((run_folder / METRICS).read_text())
    with (run_folder / HISTORY).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(metrics["epochs"] + 1))
    assert [float(row["validation auc"]) for row in rows] == metrics["validation"]["by_epoch"]
    assert [float(row["loss"]) for row in rows[1:]] == metrics["loss"]
    events = EventAccumulator(str(run_folder / LOGS / "towers")).Reload()
    assert {"loss", "validation auc", "validation ndcg@10"} <= set(events.Tags()["tensors"])
    assert [each.step for each in events.Tensors("loss")] == list(range(1, metrics["epochs"] + 1))


def test_mlflow_has_one_run_with_every_epoch(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    recipe, data = Recipe.model_validate(small_recipe), Dataset.open(dataset_folder)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with monkeypatch.context() as patch:
        stopping(patch, 1)
        with pytest.raises(Stopped):
            train(recipe, data, tmp_path / "run", mlflow=uri)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("belfry")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    metrics = train(recipe, data, tmp_path / "run", resume=True, mlflow=uri)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.seed"] == "3"
    found = {each.step: each.value for each in client.get_metric_history(run.info.run_id, "towers/validation auc")}
    assert list(found.values()) == metrics["validation"]["by_epoch"]


def test_a_tracking_server_that_is_not_there_stops_nothing_half_way(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="MLflow"):
        train(
            Recipe.model_validate(small_recipe), Dataset.open(dataset_folder), tmp_path / "run", mlflow="nosuch://host"
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("metric", "examples"), [("mrr", "impressions"), ("recall@10", "interactions")])
def test_the_metric_that_chooses_the_epoch_can_be_chosen(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path, metric: str, examples: str
) -> None:
    changed = {
        **small_recipe,
        "data": {**small_recipe["data"], "examples": examples},
        "training": {**small_recipe["training"], "epochs": 1, "metric": metric},
    }
    metrics = train(Recipe.model_validate(changed), Dataset.open(dataset_folder), tmp_path / "run")
    assert metrics["validation"]["metric"] == metric
    scores = metrics["validation"]["by_epoch"]
    assert metrics["best_epoch"] == int(np.argmax(scores))


def test_a_metric_that_is_not_measured_there_is_refused(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**small_recipe, "training": {"metric": "recall@10"}}))
    assert belfry(["train", str(recipe), "--data", str(dataset_folder), "--out", str(tmp_path / "run")]) == 2
    assert "recall@10 is not measured on slates (there are auc, mrr" in capsys.readouterr().err
