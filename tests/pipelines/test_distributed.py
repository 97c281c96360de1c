"""Two processes that train together come to the weights of one, and survive the loss of one by their checkpoint."""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from pipelines.build import build_model
from pipelines.data.dataset import Dataset
from pipelines.distributed import Workers, workers
from pipelines.errors import BadInput
from pipelines.fit import training_examples
from pipelines.prepare import prepare
from pipelines.recipe import Recipe
from pipelines.training import train
from pipelines.unfinished import partial_of

_BELFRY = "import sys; from pipelines.cli import main; sys.exit(main())"


def recipe_file(folder: Path, recipe: dict[str, Any], **training: Any) -> Path:
    wanted = copy.deepcopy(recipe)
    # Dropout is drawn for the rows that a worker has, so that it cannot be the same. The plainest history encoder is
    # the quickest to trace, which each of the processes does.
    wanted["towers"] |= {"id_dropout": 0.0, "history_dropout": 0.0, "history_encoder": "mean"}
    wanted["training"] |= {"epochs": 2, **training}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(wanted), encoding="utf-8")
    return path


def start(index: int, ports: list[int], *command: str | Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
    arguments = [sys.executable, "-c", _BELFRY, *map(str, command)]
    return subprocess.Popen(arguments, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def finish(*processes: subprocess.Popen[str]) -> None:
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output


def weights(run: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(run / "model.weights.h5") as file:
        file.visititems(
            lambda name, value: found.update({name: value[()]}) if isinstance(value, h5py.Dataset) else None
        )
    return found


def losses(run: Path) -> list[float]:
    return list(json.loads((run / "metrics.json").read_text(encoding="utf-8"))["loss"])


def test_two_workers_train_the_model_of_one(
    dataset_folder: Path, small_recipe: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path, small_recipe, catalogue_weight=0.5)
    command = ("train", recipe, "--data", dataset_folder, "--out")
    train(Recipe.load(recipe), Dataset.open(dataset_folder), tmp_path / "one")
    ports = free_ports(2)
    finish(*(start(index, ports, *command, tmp_path / "two") for index in range(2)))
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_job_that_lost_a_worker_goes_on_from_its_checkpoint(
    dataset_folder: Path, small_recipe: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path, small_recipe, epochs=8, patience=99)
    out = tmp_path / "run"
    command = ("train", recipe, "--data", dataset_folder, "--out", out)
    ports = free_ports(2)
    survivor, lost = (start(index, ports, *command) for index in range(2))
    deadline = time.monotonic() + 240
    while not list((partial_of(out) / "checkpoints").glob("*.npz")):
        assert survivor.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    lost.send_signal(signal.SIGKILL)
    lost.communicate()
    told = survivor.communicate(timeout=240)[0]
    assert survivor.returncode == 1, told
    assert "a worker was lost in epoch" in told
    assert not out.exists()
    assert list((partial_of(out) / "checkpoints").glob("*.npz"))
    ports = free_ports(2)
    finish(*(start(index, ports, *command, "--resume") for index in range(2)))
    assert len(losses(out)) == 8


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shares_are_the_whole_batch(count: int) -> None:
    rows = np.arange(4)
    batch = {"positive": rows + 10, "probability": rows / 10, "history": rows[:, None], "encoded": np.array([7])}
    batch["weight"] = np.ones(4)
    shares = [Workers(None, index, count).share(batch) for index in range(count)]
    counted = [share["history"][share["weight"] > 0, 0] for share in shares]
    np.testing.assert_array_equal(np.concatenate(counted), rows)
    for share in shares:
        own = len(share["history"])
        np.testing.assert_array_equal(share["positive"][:own] - 10, share["history"][:, 0])
        np.testing.assert_array_equal(share["probability"], (share["positive"] - 10) / 10)
        assert sorted(share["positive"]) == [10, 11, 12, 13]
        assert list(share["encoded"]) == [7]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_shares_losses_and_gradients_add_up(dataset_folder: Path, small_recipe: dict[str, Any], count: int) -> None:
    from towers.runtime import tf

    wanted = copy.deepcopy(small_recipe)
    wanted["towers"] |= {"id_dropout": 0.0, "history_dropout": 0.0}
    wanted["training"] |= {"catalogue_weight": 0.5}
    recipe = Recipe.model_validate(wanted)
    data = prepare(Dataset.open(dataset_folder), recipe)
    model = build_model(recipe, data.vocabulary, data.catalogue)
    whole = {name: values[:4] for name, values in training_examples(recipe, data).batch(1, 0).items()}

    def results(batch: dict[str, np.ndarray]) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=batch, y_pred=model(batch, training=True))
        weights = [weight.value for weight in model.trainable_variables]
        found = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [loss.numpy(), *(tf.convert_to_tensor(each).numpy() for each in found)]

    # Of five workers, one has no row of its own.
    shares = [results(Workers(None, index, count).share(whole)) for index in range(count)]
    expected = results(whole)
    assert any(np.abs(each).max() > 1e-3 for each in expected[1:])
    for value, *parts in zip(expected, *shares, strict=True):
        np.testing.assert_allclose(np.sum(parts, axis=0), value, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        "no JSON",
        "{}",
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_another_tf_config_is_bad_input(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(BadInput, match="TF_CONFIG cannot be used"):
        workers.__wrapped__()
