"""An edge server with 50 thousand items of 384 numbers: cold start, memory, and time a recommendation, on one thread.

The bundle is synthetic but whole: a GRU's user tower, MiniLM as content model, two stages, all by LiteRT's converter;
embeddings and requests are random. What is measured runs in a process of its own, without TensorFlow.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_ITEMS, _WIDTH, _HISTORY, _TAGS = 50_000, 384, 50, 6
_REQUESTS, _ARTICLES = 1_000, 50


def run() -> None:
    with tempfile.TemporaryDirectory() as name:
        for stages in (1, 2):
            folder = Path(name) / str(stages)
            # TensorFlow stays in a process that ends before anything is measured.
            subprocess.run(
                [sys.executable, "-m", "benchmarks.edge", "write", str(folder / "1"), str(stages)], check=True
            )
            print(f"{stages} stage{'s' if stages > 1 else ''}, {_ITEMS:,} items x {_WIDTH}, history {_HISTORY}")
            starts = sorted(_cold_start(folder) for _ in range(5))
            print(f"  cold start to the first answer by REST: median {starts[2]:.2f} s, worst {starts[-1]:.2f} s of 5")
            measured = subprocess.run(
                [sys.executable, "-m", "benchmarks.edge", "measure", str(folder)], check=True, stdout=subprocess.PIPE
            )
            found = json.loads(measured.stdout)
            print(
                f"  resident: {found['started']:.0f} MiB started, {found['served']:.0f} after {_REQUESTS:,} requests, "
                f"{found['encoded']:.0f} after an article was encoded, {found['peak']:.0f} at most"
            )
            for name_of, times in found["milliseconds"].items():
                wall, cpu = times["wall"], times["cpu"]
                print(
                    f"  {name_of}: p50 {wall[0]:.2f} ms, p99 {wall[1]:.2f} ms; "
                    f"of the processor p50 {cpu[0]:.2f} ms, p99 {cpu[1]:.2f} ms"
                )


def _cold_start(folder: Path) -> float:
    """Seconds from the command to an answer."""
    from urllib.request import Request, urlopen

    start = time.perf_counter()
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "edge", str(folder), "--port", "0"]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            text += process.stdout.readline()
        urlopen(Request(f"{json.loads(text)['url']}/v1/recommendations", method="POST")).read()
        return time.perf_counter() - start
    finally:
        process.terminate()
        process.communicate()


def write(folder: Path, stages: int) -> None:
    import numpy as np

    from benchmarks.edge_bundle import write_bundle
    from pipelines.presets import locate_preset
    from towers.appeal import ContentAppeal
    from towers.behaviour import BehaviourTower
    from towers.content import ContentTower
    from towers.ranker import RankingTower
    from towers.recommender import Recommender
    from towers.runtime import seed_everything
    from towers.served_ranker import ServedRanker
    from towers.text import TextEncoder

    seed_everything(1)
    rng = np.random.default_rng(1)
    ids = [f"N{number:06}" for number in range(_ITEMS)]
    categories = [f"category{number}" for number in range(20)]
    content = ContentTower(_WIDTH, categories=len(categories), languages=4)
    content.build({"text": (None, _WIDTH)})
    behaviour = BehaviourTower(encoder="gru", languages=4, devices=3, time_of_day=True)
    behaviour.build({"history": (None, _HISTORY, _WIDTH)})
    behaviour.set_weights([w + rng.normal(scale=0.02, size=w.shape).astype("f4") for w in behaviour.get_weights()])
    # LiteRT has no loop here: every event is a step of its own.
    behaviour.encoder.recurrent.unroll = True
    embeddings = rng.normal(size=(_ITEMS, _WIDTH)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    ranker = None
    if stages == 2:
        tower = RankingTower(("click", "read"), crosses=2)
        tower.build({"user": (None, _WIDTH)})
        rows = _ITEMS + 1
        appeal = ContentAppeal(_WIDTH, len(categories))
        appeal.build()
        ranker = ServedRanker(
            tower,
            appeal,
            category=rng.integers(0, 21, rows),
            tags=rng.integers(0, 50, (rows, _TAGS)),
            appeal=rng.normal(size=rows),
            clicks=rng.integers(0, 100, rows),
            click_rate=rng.normal(size=rows),
            published_at=rng.integers(1_600_000_000, 1_700_000_000, rows),
            retrieve=200,
        )
    served = Recommender(
        content,
        behaviour,
        TextEncoder(locate_preset("minilm"), max_tokens=32),
        item_ids=ids,
        embeddings=embeddings,
        on_offer=np.ones(_ITEMS, bool),
        items=[],
        categories=categories,
        tags=[f"tag{number}" for number in range(50)],
        tags_kept=_TAGS,
        languages=["de", "en", "es", "fr"],
        devices=["desktop", "mobile", "tablet"],
        history=_HISTORY,
        top_k=100,
        ranker=ranker,
    )
    write_bundle(folder, served, quantised=True)


def measure(folder: Path) -> dict[str, Any]:

    import numpy as np

    from serving.edge.store import BundleStore

    store = BundleStore(folder, poll_seconds=0)
    edge = store.recommender
    rng = np.random.default_rng(2)
    found: dict[str, Any] = {"started": _resident(), "milliseconds": {}}

    def history() -> list[tuple[str, float, float, float]]:
        items = rng.integers(0, _ITEMS, rng.integers(0, _HISTORY + 1))
        return [(f"N{item:06}", float(rng.integers(1, 10**6)), 30.0, 0.5) for item in items]

    for k in (10, 100):
        requests = [history() for _ in range(_REQUESTS + 20)]

        def one(number: int, k: int = k, requests: list = requests) -> None:
            edge.recommend(requests[number], language="en", device="mobile", time_seconds=1_750_000_000, k=k)

        found["milliseconds"][f"a recommendation of {k}"] = _times(one, len(requests))
    found["served"] = _resident()
    words = [
        "storm",
        "closes",
        "the",
        "harbour",
        "after",
        "a",
        "late",
        "goal",
        "in",
        "the",
        "cup",
        "and",
        "the",
        "budget",
        "vote",
        "in",
        "parliament",
    ]
    store.add_item("new", title="storm")
    texts = [" ".join(rng.choice(words, 14)) for _ in range(_ARTICLES + 20)]
    found["milliseconds"]["an article added"] = _times(lambda n: store.add_item(f"new{n}", title=texts[n]), len(texts))
    found["encoded"] = _resident()
    found["peak"] = _resident("VmHWM")
    return found


def _times(call: Any, count: int) -> dict[str, list[float]]:
    """Median and 99th percentile, in milliseconds, after twenty calls that warm up; by the clock and of all threads'
    processor time, which other processes do not lengthen."""
    import numpy as np

    wall, cpu = [], []
    for number in range(count):
        start, used = time.perf_counter(), time.process_time()
        call(number)
        wall.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - used))
    return {name: np.percentile(values[20:], [50, 99]).tolist() for name, values in (("wall", wall), ("cpu", cpu))}


def _resident(which: str = "VmRSS") -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        print(json.dumps(measure(Path(sys.argv[2]))))
