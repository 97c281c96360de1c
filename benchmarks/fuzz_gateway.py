"""Requests that the gateway's document allows, and that it does not, for minutes: no 5xx, no crash, no growth.

`python -m benchmarks fuzz-gateway`; `BELFRY_FUZZ_MINUTES` says how long, 5 by default. The gateway has a small model in
its own process, so that both take part.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.commands import BELFRY, measure

RECIPE = """
data: {split: {by: time, validation: 0.1, test: 0.1}}
features: {text: null, history: 20}
towers: {width: 32, history_encoder: mean}
training: {epochs: 1, batch_size: 256}
"""


def run() -> int:
    minutes = float(os.environ.get("BELFRY_FUZZ_MINUTES", "5"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(RECIPE)
        measure(BELFRY, "data", "import", "newsroom", "small", folder / "data")
        measure(BELFRY, "train", folder / "recipe.yaml", "--data", folder / "data", "--out", folder / "run")
        measure(BELFRY, "export", folder / "run", "--to", folder / "models" / "news")
        measure(BELFRY, "events", "import", folder / "data", "--store", folder / "store")
        command = [str(BELFRY), "serve", "--store", str(folder / "store"), "--models", str(folder / "models")]
        command += ["--port", "0", "--rest-port", "-1", "--grpc-port", "0", "--json"]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            try:
                return _ask(process, _address(process), minutes)
            finally:
                process.terminate()
                process.wait()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = ""
    while not text.rstrip().endswith("}"):
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the gateway did not start")
        text += line
    return str(json.loads(text)["url"])


def _ask(process: subprocess.Popen[str], url: str, minutes: float) -> int:
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, seed, settings

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    statuses: Counter[int] = Counter()
    bad: list[str] = []
    resident: list[float] = []
    end, number = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end and process.poll() is None:
        for operation in operations:
            for mode in schemathesis.GenerationMode:

                @seed(number)
                @settings(
                    max_examples=50,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(generation_mode=mode))
                def ask(case: Any) -> None:
                    answer = case.call(timeout=30)
                    statuses[answer.status_code] += 1
                    if answer.status_code >= 500:
                        bad.append(f"{case.method} {case.path}: {answer.text[:200]}")

                if mode is schemathesis.GenerationMode.POSITIVE or operation.body or operation.path_parameters:
                    ask()
        number += 1
        resident.append(_resident(process.pid))
        if len(resident) % 10 == 1:
            print(f"  {sum(statuses.values()):>8,} requests, {resident[-1]:.0f} MiB", flush=True)
    alive = process.poll() is None
    print(f"{sum(statuses.values()):,} requests: {dict(sorted(statuses.items()))}; alive: {alive}")
    # What the first rounds load stays; after that it should not grow.
    half = resident[len(resident) // 2 :]
    print(f"resident: {resident[0]:.0f} MiB after one round, {half[0]:.0f} at half time, {resident[-1]:.0f} at the end")
    for line in bad[:10]:
        print("  " + line)
    return int(bool(bad) or not alive)


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    sys.exit(run())
