"""A gateway with 50 thousand items of 128 numbers and 100 thousand users: recommendations a second, and their times.

The model is synthetic but whole: a GRU over 50 events, an exact index, with a second stage of 200 candidates and
without; embeddings and histories are random. `belfry serve` runs it in one process, with SQLite. The load comes from a
process of its own, which sends requests when they are due, whether or not the last ones are answered, and times them
from then; every fifth comes with an event of what was shown before, so that caches are dropped all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ITEMS, _USERS, _WIDTH, _HISTORY, _EVENTS = 50_000, 100_000, 128, 50, 10
_RATE, _SECONDS, _CONNECTIONS = 500, 20, 64
_CATEGORIES, _LANGUAGES = 20, ["de", "en", "es", "fr"]


def run() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_process("fill", str(folder / "store"))
        for stages in (1, 2):
            models = folder / f"stages{stages}"
            in_process("write", str(models / "feed" / "1"), str(stages))
            print(
                f"{stages} stage{'s' if stages > 1 else ''}, {_ITEMS:,} items x {_WIDTH}, {_USERS:,} users", flush=True
            )
            _measure(models, folder / "store", folder / f"log{stages}")


def in_process(*arguments: str) -> None:
    # TensorFlow stays in a process that ends before anything is measured.
    subprocess.run([sys.executable, "-m", "benchmarks.gateway", *arguments], check=True)


@contextlib.contextmanager
def served(models: Path, store: Path, log: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`belfry serve` in a process of its own until the block ends, and its URL."""
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "serve", "--models", str(models)]
    command += ["--store", str(store), "--port", "0", "--rest-port", "-1", "--grpc-port", "0", "--json"]
    with log.open("wb") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert server.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            line = server.stdout.readline()
            if not line:
                raise RuntimeError(log.read_text()[-2000:])
            text += line
        yield server, json.loads(text)["url"]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def _measure(models: Path, store: Path, log: Path) -> None:
    with served(models, store, log) as (server, url):
        for rate in (_RATE // 2, _RATE):
            before = _cpu(server.pid)
            loaded = subprocess.run(
                [sys.executable, "-m", "benchmarks.gateway", "load", url, str(rate)], check=True, stdout=subprocess.PIPE
            )
            found = json.loads(loaded.stdout)
            spent = 1000 * (_cpu(server.pid) - before) / found["answered"]
            print(
                f"  {rate}/s asked, {found['rate']:.0f}/s answered: "
                f"p50 {found['p50']:.1f} ms, p99 {found['p99']:.1f} ms; "
                f"{found['fallbacks']} of {found['answered']:,} by a fallback, {found['failed']} failed, "
                f"{found['events']:,} events; {spent:.2f} ms of the processor each, {_resident(server.pid):.0f} MiB",
                flush=True,
            )


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def fill(folder: Path) -> None:
    """A store of random histories of the last two weeks."""
    import numpy as np

    from serving.events import Store
    from serving.events.items import put_items
    from serving.events.log import ignoring_known
    from serving.events.tables import EVENTS

    rng = np.random.default_rng(2)
    now = time.time_ns() // 1000
    with Store(folder) as store:
        for start in range(0, _ITEMS, 5_000):
            items = [
                {
                    "item_id": f"N{number:06}",
                    "title": f"Article {number}",
                    "category": f"category{number % _CATEGORIES}",
                    "language": _LANGUAGES[number % 4],
                    "published_at": now - (_ITEMS - number) * 60_000_000,
                }
                for number in range(start, start + 5_000)
            ]
            put_items(store, items, None)
        insert, total = ignoring_known(store, EVENTS), _USERS * _EVENTS
        blank = dict.fromkeys(EVENTS.columns.keys())
        for start in range(0, total, 50_000):
            item, age = rng.integers(0, _ITEMS, 50_000), rng.integers(0, 14 * 86_400, 50_000)
            rows = [
                blank
                | {
                    "event_id": f"h{start + place}",
                    "user_id": f"u{(start + place) // _EVENTS:06}",
                    "item_id": f"N{item[place]:06}",
                    "kind": "click",
                    "at": now - int(age[place]) * 1_000_000,
                }
                for place in range(50_000)
            ]
            with store.writing() as connection:
                connection.execute(insert, rows)


def write(folder: Path, stages: int) -> None:
    """A SavedModel of random weights."""
    import numpy as np

    from towers.appeal import ContentAppeal
    from towers.behaviour import BehaviourTower
    from towers.content import ContentTower
    from towers.ranker import RankingTower
    from towers.recommender import Recommender
    from towers.runtime import seed_everything, tf
    from towers.served_ranker import ServedRanker

    seed_everything(1)
    rng = np.random.default_rng(1)
    ids = [f"N{number:06}" for number in range(_ITEMS)]
    categories = [f"category{number}" for number in range(_CATEGORIES)]
    content = ContentTower(_WIDTH, use_text=False, categories=len(categories), languages=4)
    content.build({})
    behaviour = BehaviourTower(encoder="gru", languages=4, devices=3, time_of_day=True)
    behaviour.build({"history": (None, _HISTORY, _WIDTH)})
    embeddings = rng.normal(size=(_ITEMS, _WIDTH)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    ranker = None
    if stages == 2:
        tower = RankingTower(("click", "read"), crosses=2)
        tower.build({"user": (None, _WIDTH)})
        rows = _ITEMS + 1
        appeal = ContentAppeal(_WIDTH, _CATEGORIES)
        appeal.build()
        ranker = ServedRanker(
            tower,
            appeal,
            category=rng.integers(0, _CATEGORIES + 1, rows),
            tags=rng.integers(0, 50, (rows, 6)),
            appeal=rng.normal(size=rows),
            clicks=rng.integers(0, 100, rows),
            click_rate=rng.normal(size=rows),
            published_at=rng.integers(1_600_000_000, 1_700_000_000, rows),
            retrieve=200,
        )
    served = Recommender(
        content,
        behaviour,
        None,
        item_ids=ids,
        embeddings=embeddings,
        on_offer=np.ones(_ITEMS, bool),
        items=[],
        categories=categories,
        tags=[f"tag{number}" for number in range(50)],
        tags_kept=6,
        languages=_LANGUAGES,
        devices=["desktop", "mobile", "tablet"],
        history=_HISTORY,
        top_k=100,
        ranker=ranker,
    )
    folder.parent.mkdir(parents=True)
    tf.saved_model.save(served, str(folder), signatures=served.signatures())


class _Connection(asyncio.Protocol):
    """As little as a client can do, since it shares the processor with the server."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if separator and self._waiting is not None:
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(body) >= length:
                waiting, self._waiting, self._buffer = self._waiting, None, b""
                waiting.set_result((int(head[9:12]), body))

    def ask(self, path: str, body: bytes) -> asyncio.Future[tuple[int, bytes]]:
        self._waiting = asyncio.get_running_loop().create_future()
        kind = "content-type: application/json"
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)
        return self._waiting


async def load(url: str, rate: int, seconds: int) -> dict[str, Any]:
    """Ask at a rate for some seconds."""
    import numpy as np
    import orjson

    host, _, port = url.removeprefix("http://").rpartition(":")
    loop = asyncio.get_running_loop()
    free: deque[_Connection] = deque()
    for _ in range(_CONNECTIONS):
        free.append((await loop.create_connection(_Connection, host, int(port)))[1])
    available = asyncio.Semaphore(_CONNECTIONS)
    users = np.random.default_rng(os.getpid()).integers(0, _USERS, rate * seconds)
    times: list[float] = []
    shown: deque[tuple[str, str, str]] = deque(maxlen=1_000)
    counts = {"failed": 0, "fallbacks": 0, "events": 0}

    async def ask(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        async with available:
            connection = free.popleft()
            try:
                return await connection.ask(path, orjson.dumps(body))
            finally:
                free.append(connection)

    async def recommend(user: str, due: float, kept: bool) -> None:
        status, body = await ask("/v1/recommendations", {"user_id": user, "context": {"language": "en"}})
        if kept:
            times.append(time.perf_counter() - due)
            counts["failed"] += status != 200
            counts["fallbacks"] += b'"fallback":null' not in body
        answer = orjson.loads(body)
        if answer.get("items"):
            shown.append((user, answer["items"][0]["item_id"], answer["request_id"]))

    async def click(user: str, item: str, request: str) -> None:
        event = {"event_id": f"{request}c", "user_id": user, "item_id": item, "kind": "click", "request_id": request}
        status, _ = await ask("/v1/events", event)
        counts["failed"] += status != 202
        counts["events"] += 1

    tasks = []
    warm = rate * 3
    begun = time.perf_counter()
    for number, user in enumerate(users):
        due = begun + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(loop.create_task(recommend(f"u{user:06}", due, number >= warm)))
        if number % 5 == 0 and shown:
            tasks.append(loop.create_task(click(*shown.popleft())))
    await asyncio.gather(*tasks)
    passed = time.perf_counter() - begun - warm / rate
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return counts | {"answered": len(users), "rate": len(times) / passed, "p50": p50, "p99": p99}


def main(arguments: list[str]) -> None:
    match arguments:
        case ["fill", folder]:
            fill(Path(folder))
        case ["write", folder, stages]:
            write(Path(folder), int(stages))
        case ["load", url, rate]:
            import uvloop

            print(json.dumps(uvloop.run(load(url, int(rate), _SECONDS))))


if __name__ == "__main__":
    main(sys.argv[1:])
