"""Eight trials with each search algorithm, each search killed with signal 9 in the middle and resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.commands import BELFRY
from pipelines.recipe import Recipe
from pipelines.unfinished import partial_of

TRIALS, KILLED_AFTER = 8, 3
# The newsroom's recipe, without its second stage and with few epochs, and a rate that is not the best.
RECIPE = {
    "data": {"split": {"by": "time", "validation": 0.1, "test": 0.1}},
    "features": {"text": {"preset": "minilm", "max_tokens": 48}, "history": 20, "item_id": False},
    "towers": {"projection": "keep", "history_encoder": "mean"},
    "training": {"epochs": 3, "batch_size": 128, "learning_rate": 1e-4, "in_batch_weight": 0.2},
    "search": {
        "training.learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"},
        "training.batch_size": [64, 128],
        "towers.history_encoder": ["mean", "attention"],
        "towers.history_dropout": [0.0, 0.2, 0.4],
    },
}


def run() -> int:
    """Returns 1 unless every search completes all trials, repeats none, and finds a better recipe."""
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [BELFRY, "data", "import", "newsroom", "small", folder / "data"], check=True, capture_output=True
        )
        (folder / "recipe.yaml").write_text(Recipe.model_validate(RECIPE).dump())
        print(f"{'':11}{'completed':>10}{'repeated':>10}{'as it is':>10}{'best':>8}  lead [95 % interval]      minutes")
        for algorithm in ("random", "grid", "bayesian", "hyperband"):
            began = time.monotonic()
            result, repeated = _search(folder, algorithm)
            best, default = result["best"], result["default"]["score"]
            mean, low, high = best["lead"]
            print(
                f"{algorithm:11}{result['completed']:>5} of {TRIALS}{repeated:>10}{default:>10.4f}{best['score']:>8.4f}"
                f"  {mean:+.4f} [{low:+.4f}, {high:+.4f}]{(time.monotonic() - began) / 60:>9.1f}",
                flush=True,
            )
            failed += result["completed"] < TRIALS or repeated > 0 or not result["better"]
    return int(failed > 0)


def _search(folder: Path, algorithm: str) -> tuple[dict[str, Any], int]:
    """The result of a search that is killed and resumed, and how many finished trials it ran again."""
    out = folder / algorithm
    first = _tune(folder, algorithm)
    while _finished(out) < KILLED_AFTER:
        if first.poll() is not None:
            raise RuntimeError(f"the search ended by itself: {first.communicate()[1]}")
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    finished = _finished(out)
    output, told = _tune(folder, algorithm, "--resume").communicate()
    repeated = sum(f"trial {number} of {TRIALS}: training." in told for number in range(1, finished + 1))
    return json.loads(output), repeated


def _finished(out: Path) -> int:
    path = partial_of(out) / "search.json"
    return sum("told" in event for event in json.loads(path.read_text())["events"]) if path.exists() else 0


def _tune(folder: Path, algorithm: str, *more: str) -> subprocess.Popen[str]:
    command = [BELFRY, "tune", folder / "recipe.yaml", "--data", folder / "data", "--out", folder / algorithm]
    command += ["--search", algorithm, "--trials", str(TRIALS), "--json", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
