"""How long from `belfry rollback` to the first feed by the version before, with 50 thousand items and live articles."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.gateway import in_process, served
from pipelines.registry import Registry

_TIMES, _LIVE, _LONGEST = 10, 100, 5.0  # rollbacks, articles that no index has, seconds
_BELFRY = (sys.executable, "-c", "from pipelines.cli import main; main()")


def run() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = folder / "models"
        in_process("fill", str(folder / "store"))
        in_process("write", str(models / "feed" / "1"), "1")
        shutil.copytree(models / "feed" / "1", models / "feed" / "2")
        registry = Registry(models)
        for version in (1, 2):
            registry.add("feed", version, "for the benchmark")
            registry.promote("feed", version, "for the benchmark")
        with served(models, folder / "store", folder / "log") as (_, url), httpx.Client(base_url=url) as client:
            return _measure(client, models)


def _measure(client: httpx.Client, models: Path) -> int:
    _until(client, 2)
    for number in range(_LIVE):
        client.put(f"/v1/items/live{number}", json={"title": f"Article {number}", "language": "en"}).raise_for_status()
    reader = _Reader(str(client.base_url))
    reader.start()
    seconds = []
    for number in range(_TIMES):
        begun = time.monotonic()
        subprocess.run([*_BELFRY, "rollback", str(models), "feed"], check=True, stdout=subprocess.DEVNULL)
        _until(client, 1 if number % 2 == 0 else 2)
        seconds.append(time.monotonic() - begun)
        time.sleep(1.0)
    reader.stop.set()
    reader.join()
    print(
        f"from the command to the first feed by the version before: median {np.median(seconds):.1f} s, at most "
        f"{max(seconds):.1f} s, of {_TIMES}; meanwhile {sum(reader.answers.values()):,} feeds: {dict(reader.answers)}"
    )
    return int(max(seconds) > _LONGEST or bool(reader.answers["failed"]))


def _until(client: httpx.Client, version: int) -> None:
    while _ask(client)["model"]["version"] != version:
        time.sleep(0.02)


def _ask(client: httpx.Client, user: str = "u000001") -> dict[str, Any]:
    answer = client.post("/v1/recommendations", json={"user_id": user})
    answer.raise_for_status()
    return dict(answer.json())


class _Reader(threading.Thread):
    """Asks all the while, and counts what answered."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.stop, self.answers = url, threading.Event(), Counter[str]()

    def run(self) -> None:
        number = 0
        with httpx.Client(base_url=self.url) as client:
            while not self.stop.is_set():
                number += 1
                try:
                    self.answers[_ask(client, f"u{number:06}")["fallback"] or "model"] += 1
                except httpx.HTTPError:
                    self.answers["failed"] += 1
                time.sleep(0.01)
