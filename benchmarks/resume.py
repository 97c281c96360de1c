"""Ten trainings, each killed with signal 9 at a random moment and resumed, beside one that was not."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.commands import BELFRY

RECIPE = Path(__file__).parents[1] / "recipes" / "demo.yaml"
KILLS = 10


def run() -> int:
    """Returns 1 unless all agree with the uninterrupted run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _quiet(BELFRY, "data", "import", "newsroom", "small", folder / "data").wait()
        began = time.monotonic()
        if _train(folder, "whole").wait():
            raise RuntimeError("the uninterrupted training failed")
        seconds = time.monotonic() - began
        expected = (folder / "whole" / "metrics.json").read_text()
        epochs = json.loads(expected)["epochs"]
        print(f"uninterrupted: {epochs} epochs, {seconds:.0f} s")
        moments = np.sort(np.random.default_rng(17).uniform(0, seconds, KILLS))
        agreed = sum(_killed_at(moment, folder, expected) for moment in moments)
        print(f"{agreed} of {KILLS} resumed and agree in every metric")
        return int(agreed < KILLS)


def _killed_at(moment: float, folder: Path, expected: str) -> bool:
    out = f"killed-{moment:.1f}"
    process = _train(folder, out)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL
    checkpoints = list((folder / f"{out}.partial" / "checkpoints").glob("*.npz"))
    _train(folder, out).wait()
    found = folder / out / "metrics.json"
    agrees = found.exists() and found.read_text() == expected
    state = f"with {len(checkpoints)} checkpoint(s)" if killed else "after its end"
    print(f"killed after {moment:5.1f} s, {state}: {'agrees' if agrees else 'DIFFERS'}", flush=True)
    return agrees


def _train(folder: Path, out: str) -> subprocess.Popen[bytes]:
    return _quiet(BELFRY, "train", RECIPE, "--data", folder / "data", "--out", folder / out, "--resume")


def _quiet(*command: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
