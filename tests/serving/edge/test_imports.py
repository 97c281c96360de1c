"""What a fresh process holds after a recommendation, and the command as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pipelines.cli.app import run as belfry

_ASK = """
import json, sys
from pathlib import Path
from serving.edge.server import EdgeServer
from serving.edge.recommender import EdgeRecommender

with EdgeServer(Path(sys.argv[1]), poll_seconds=0) as server:
    server.store.add_item("new", title="storm")
    print(json.dumps({"found": server.store.recommender.recommend(k=3), "modules": sorted(sys.modules)}))
"""


def test_a_recommendation_needs_neither_tensorflow_nor_keras_nor_torch(store_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(store_folder)], capture_output=True, text=True, check=True, timeout=120
    )
    answer = json.loads(done.stdout)
    assert len(answer["found"]) == 3
    heavy = {
        "tensorflow",
        "keras",
        "tf_keras",
        "keras_hub",
        "torch",
        "tensorflow_text",
        "pipelines",
        "towers",
        "pandas",
    }
    assert not heavy & {name.split(".")[0] for name in answer["modules"]}


def test_the_command_serves_until_it_is_told_to_stop(store_folder: Path) -> None:
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "edge", str(store_folder)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        lines = []
        while "}" not in (lines or [""])[-1]:
            lines.append(process.stdout.readline())
        told = json.loads("".join(lines))
        assert told["bundle"] == "1"
        assert len(httpx.post(f"{told['url']}/v1/recommendations", json={"k": 4}).json()["items"]) == 4
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["nowhere"], "is not a folder"), (["."], "no numbered bundle"), (["--bind", "0.0.0.0"], "asks for no keys")],
)
def test_what_cannot_be_served_is_one_sentence(
    store_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    folder = [] if not arguments[0].startswith("-") else [str(store_folder)]
    assert belfry(["edge", *folder, *arguments]) == 2
    assert told in capsys.readouterr().err
