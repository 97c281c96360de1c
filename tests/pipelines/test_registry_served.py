"""The registry, its commands, and a model server that follows them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.cli.app import run as belfry
from serving.model_server import ModelServer, Options
from towers.runtime import tf


class Numbered(tf.Module):
    """Says its number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = tf.constant([number])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "x")])
    def answer(self, x: Any) -> Any:
        return {"number": self.number + 0 * x}


@pytest.fixture
def models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    for number in (1, 2, 3):
        module = Numbered(number)
        tf.saved_model.save(
            module, str(tmp_path / "models" / "news" / str(number)), signatures={"serving_default": module.answer}
        )
    return tmp_path / "models"


@pytest.fixture
def served(models: Path) -> Iterator[ModelServer]:
    assert belfry(["registry", "add", str(models), "news", "1", "--why", "first"]) == 0
    assert belfry(["registry", "promote", str(models), "news", "1"]) == 0
    options = Options(
        model_config_file=models / "models.config",
        model_config_poll_wait_seconds=1,
        allow_version_labels_for_unavailable_models=True,
        poll_wait_seconds=0.2,
        grpc_port=None,
    )
    with ModelServer(options) as server:
        yield server


def answers(server: ModelServer, label: str) -> int | None:
    answer = httpx.post(f"{server.rest_url}/v1/models/news/labels/{label}:predict", json={"instances": [0]})
    return int(answer.json()["predictions"][0]) if answer.status_code == 200 else None


def until(server: ModelServer, label: str, number: int) -> None:
    deadline = time.monotonic() + 20
    while answers(server, label) != number:
        assert time.monotonic() < deadline, f"{label} does not answer as version {number}"
        time.sleep(0.02)


def test_a_server_follows_promotion_trial_and_rollback(
    models: Path, served: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    until(served, "champion", 1)
    for command in (["add", "2"], ["canary", "2"]):
        assert belfry(["registry", command[0], str(models), "news", command[1]]) == 0
    until(served, "canary", 2)
    assert answers(served, "champion") == 1
    assert belfry(["registry", "promote", str(models), "news", "2", "--why", "better"]) == 0
    until(served, "champion", 2)
    capsys.readouterr()
    assert belfry(["rollback", str(models), "news", "--why", "complaints"]) == 0
    assert "version 1 of news is the champion again" in capsys.readouterr().out
    until(served, "champion", 1)
    # What was never loaded is loaded first, and has the label then.
    for change in ("add", "promote"):
        assert belfry(["registry", change, str(models), "news", "3"]) == 0
    until(served, "champion", 3)
    assert belfry(["rollback", str(models), "news", "--why", "no"]) == 0
    until(served, "champion", 1)
    capsys.readouterr()
    assert belfry(["registry", "show", str(models), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["news"]
    assert shown["served"] == {"champion": 1, "before": 3}
    assert shown["history"][-1]["why"] == "rolled back from version 3: no"
    # A pinned version stays loaded, whatever else changes.
    assert belfry(["registry", "pin", str(models), "news", "2", "--label", "frozen", "--why", "holdout"]) == 0
    until(served, "frozen", 2)
    capsys.readouterr()
    assert belfry(["registry", "show", str(models)]) == 0
    assert "2 pinned as frozen holdout" in capsys.readouterr().out
    assert belfry(["registry", "unpin", str(models), "news", "--label", "frozen"]) == 0
    assert belfry(["registry", "unpin", str(models), "news", "--label", "frozen"]) == 2
    assert "no version of news is pinned as frozen" in capsys.readouterr().err


def test_bad_input_is_one_sentence(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert belfry(["registry", "promote", str(models), "news", "1"]) == 2
    assert "not known to the registry" in capsys.readouterr().err
    assert belfry(["rollback", str(models), "news"]) == 2
    assert belfry(["registry", "show", str(models / "nowhere")]) == 2
    assert belfry(["registry", "show", str(models)]) == 0
    assert "no version in its registry" in capsys.readouterr().out
