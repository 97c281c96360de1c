"""Running gateways with real stores and a real model server."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.events import Store
from serving.events.items import put_items
from serving.gateway.server import GatewayServer
from serving.gateway.settings import Settings
from serving.model_server import ModelServer, Options

CATEGORIES = ["sport", "food", "politics", "weather"]
_numbers = itertools.count(1)
DAY = 86_400 * 10**6


@dataclass
class Served:
    """A gateway, and a client of it."""

    server: GatewayServer
    http: httpx.Client

    def feed(self, user: str = "u1", **more: Any) -> dict[str, Any]:
        answer = self.http.post("/v1/recommendations", json={"user_id": user, **more})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ids(self, user: str = "u1", **more: Any) -> list[str]:
        return [item["item_id"] for item in self.feed(user, **more)["items"]]

    def click(self, user: str, *items: str, **more: Any) -> httpx.Response:
        events = []
        for item in items:
            events.append({"event_id": f"e{next(_numbers)}", "user_id": user, "item_id": item, "kind": "click"} | more)
        answer = self.http.post("/v1/events", json={"events": events})
        assert answer.status_code == 202, answer.text
        return answer

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def fill(where: Path | str) -> None:
    """The toy's items, in two languages, published an hour apart; the last is the newest."""
    now = time.time_ns() // 1000
    items = [
        {
            "item_id": f"i{number:02}",
            "title": "x" * number,
            "category": CATEGORIES[number % 4],
            "language": ["en", "de"][number % 8 // 4],
            "published_at": now - (3 * DAY + (40 - number) * 3_600 * 10**6),
        }
        for number in range(40)
    ]
    with Store(where) as store:
        put_items(store, items, None)


@pytest.fixture
def run(toy_server: ModelServer, where: Path | str, eventually: Callable[..., None]) -> Iterator[Callable[..., Served]]:
    """Start gateways on the same store, filled with the toy's items."""
    started: list[Served] = []
    fill(where)

    def start(model_server: Any = toy_server, ready: bool = True, book: Any = None, **settings: Any) -> Served:
        settings = {"store_url": str(where), "model": "feed", "port": 0, "log_requests": False} | settings
        # Where all of the machine is busy, a deadline of 100 ms is not always met.
        settings = {"deadline_ms": 5_000, "sync_seconds": 0.1} | settings
        if isinstance(model_server, str):
            settings["model_server"], model_server = model_server, None
        server = GatewayServer(Settings(**settings), model_server, versions=book)
        server.start()
        served = Served(server, httpx.Client(base_url=server.url, timeout=30))
        started.append(served)
        if ready:
            eventually(lambda: served.http.get("/readyz").json()["model"]["version"])
        return served

    yield start
    for served in started:
        served.http.close()
        served.server.stop()


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait until a condition holds; fail at the deadline."""

    def wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            pause.wait(0.02)

    return wait


@pytest.fixture
def own_model(export_toy: Callable[[bool], Path], tmp_path: Path) -> Iterator[Callable[[bool], ModelServer]]:
    """A model server of the test's own, that can be stopped; its folder is `tmp_path / "models" / "feed"`."""
    servers: list[ModelServer] = []

    def start(live: bool = True) -> ModelServer:
        base = tmp_path / "models" / "feed"
        if not base.exists():
            shutil.copytree(export_toy(live), base / "1")
        servers.append(ModelServer(Options(model_name="feed", model_base_path=base, poll_wait_seconds=0.05)))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
