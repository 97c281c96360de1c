"""A gateway with a small newsroom in it, and a browser that lets nothing pass: no error, no request elsewhere."""

from __future__ import annotations

import io
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import orjson
import pytest

from pipelines.registry import Registry
from pipelines.version_book import RegistryBook
from serving.events import Store
from serving.events.items import put_items
from serving.events.tables import ALERTS, EVENTS, SLATES
from serving.gateway.server import GatewayServer
from serving.gateway.settings import Settings
from serving.model_server import ModelServer, Options
from serving.monitoring.measures import Measure
from serving.monitoring.records import write_measures
from tests.browser import browser, keep_screenshot

__all__ = ["browser", "keep_screenshot"]

HOUR = 3_600 * 10**6
DAY = 24 * HOUR
COUNT = 40
CATEGORIES = ["sport", "food", "politics", "weather"]  # as the toy model knows them
TITLES = {
    "sport": [
        "Late goal sends harbour club to the cup final",
        "Coach rests her captain before the derby",
        "A marathon in the rain, and a record",
        "Rowers win by a hand’s breadth",
        "The striker who came back from injury",
    ],
    "food": [
        "Sourdough, and what the flour has to do with it",
        "Nine soups for a cold week",
        "The last bakery of the old town",
        "Why chefs salt their lemons",
        "A dinner from what the garden left",
    ],
    "politics": [
        "Council votes to reopen the river baths",
        "Budget talks go into a third night",
        "Minister promises faster trains by spring",
        "A small party with a long agenda",
        "Who pays for the new bridge?",
    ],
    "weather": [
        "First storm of the season closes the ferry",
        "Fog until noon, then a mild week",
        "Why the snow came early this year",
        "Flood wardens look back on a dry summer",
        "A cold front with a bright side",
    ],
}


def photograph(number: int) -> bytes:
    """A landscape in layers, drawn by a seed, as a JPEG file."""
    from PIL import Image

    rng = np.random.default_rng(number)
    width, height = 480, 270
    down = np.linspace(0, 1, height)[:, None, None]
    top, horizon = rng.uniform(60, 200, 3), rng.uniform(150, 250, 3)
    pixels = np.repeat(top + (horizon - top) * down, width, axis=1)
    across = np.arange(width)
    for layer in range(4):
        shape = sum(rng.uniform(4, 26) * np.sin(across / rng.uniform(22, 110) + rng.uniform(0, 6)) for _ in range(3))
        ridge = height * (0.42 + 0.15 * layer) + shape
        below = np.arange(height)[:, None] > ridge[None, :]
        pixels[below] = horizon * (0.75 - 0.18 * layer)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=80)
    return file.getvalue()


def newsroom(where: Path, now: int) -> None:
    """Articles, most with a picture; readers with a history; two weeks of measured windows, and an alert."""
    rng = np.random.default_rng(3)
    items, events = [], []
    for number in range(COUNT):
        category = CATEGORIES[number % 4]
        item: dict[str, Any] = {
            "item_id": f"i{number:02}",
            "title": TITLES[category][number // 4 % 5] + (", again" if number >= 20 else ""),
            "category": category,
            "language": "en",
            "published_at": now - (COUNT - number) * 3 * HOUR,
        }
        items.append(item | ({"image": photograph(number)} if number % 5 else {}))
    for user in range(12):
        for place, step in enumerate(rng.choice(5, 3 + user % 3, replace=False)):
            item_id = f"i{(user % 4) + 4 * step:02}"
            event = {"event_id": f"h{user}-{place}", "user_id": f"reader-{user:02}", "item_id": item_id}
            events.append(event | {"kind": "click", "at": now - DAY + (user * 10 + place) * 60_000_000})
    with Store(where) as store:
        put_items(store, items, None)
        with store.writing() as connection:
            connection.execute(EVENTS.insert(), events)
        today = now // DAY * DAY
        for day in range(14, 0, -1):
            ctr = 0.11 + 0.01 * np.sin(day) - (0.03 if day < 4 else 0)
            found = [
                Measure("", "", "ctr", ctr, ctr - 0.012, ctr + 0.012, 5_000),
                Measure("", "", "latency_p50_ms", 18 + rng.uniform(0, 3), None, None, 5_000),
                Measure("", "", "latency_p99_ms", 52 + rng.uniform(0, 20), None, None, 5_000),
                Measure("", "", "fallback_rate", rng.uniform(0, 0.004), 0.0, 0.006, 5_000),
                Measure("", "reference=training", "drifting", float(max(0, 5 - day)), None, None, 9),
                Measure("", "reference=before", "drifting", float(day == 3), None, None, 9),
            ]
            write_measures(store, today - day * DAY, today - (day - 1) * DAY, found)
        alert = {"id": "a", "at": now - 2 * HOUR, "rule": "clicks-fall", "state": "raised", "action": "alert"}
        with store.writing() as connection:
            connection.execute(ALERTS.insert(), alert | {"reason": "ctr_change is -0.27, below -0.2"})


def exposures(where: Path, name: str, now: int) -> None:
    """What 400 users saw and clicked in an experiment of the variants `control` and `wide`."""
    rng = np.random.default_rng(5)
    slates, events = [], []
    for user in range(400):
        variant = ("control", "wide")[user % 2]
        request = {"request_id": f"{name}{user}", "user_id": f"visitor-{user:03}", "at": now + user}
        slates.append(
            request
            | {"placement": "home", "model": "feed", "version": 1, "variant": f"{name}:{variant}"}
            | {"items": orjson.dumps([[f"i{place:02}", 1.0, place, 1.0, "x"] for place in range(6)]).decode()}
            | {"latency_ms": float(rng.gamma(4, 5))}
        )
        clicked = np.flatnonzero(rng.random(6) < (0.1, 0.22)[user % 2])
        events += [
            request | {"event_id": f"{name}{user}-{place}", "item_id": f"i{place:02}", "kind": "click"}
            for place in clicked
        ]
    with Store(where) as store, store.writing() as connection:
        connection.execute(SLATES.insert(), slates)
        connection.execute(EVENTS.insert(), events)


@dataclass
class Newsroom:
    """A running gateway, the registry that it follows, and where its store is."""

    server: GatewayServer
    registry: Registry
    where: Path
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.server.url, timeout=30)


@pytest.fixture(scope="module")
def wait_for() -> Callable[..., None]:
    """Wait until a condition holds; fail at the deadline."""

    def wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            pause.wait(0.02)

    return wait


@pytest.fixture(scope="module")
def open_newsroom(
    export_toy: Callable[[bool], Path], tmp_path_factory: pytest.TempPathFactory, wait_for: Callable[..., None]
) -> Iterator[Callable[[], Newsroom]]:
    """Start gateways of their own, each with a registry of three versions of the toy model: 2 is the champion."""
    closing: list[Callable[[], None]] = []

    def start() -> Newsroom:
        folder = tmp_path_factory.mktemp("newsroom")
        models, where = folder / "models", folder / "store"
        for version in (1, 2, 3):
            shutil.copytree(export_toy(True), models / "feed" / str(version))
        registry = Registry(models)
        for version in (1, 2, 3):
            registry.add("feed", version, "trained on the week")
        registry.promote("feed", 1, "the first")
        registry.promote("feed", 2, "better by 3 % on last week")
        registry.try_out("feed", 3, "fresh events")
        newsroom(where, time.time_ns() // 1000)
        model_server = ModelServer(
            Options(
                model_config_file=models / "models.config",
                model_config_poll_wait_seconds=0.1,
                allow_version_labels_for_unavailable_models=True,
            )
        )
        model_server.start()
        closing.append(model_server.stop)
        settings: dict[str, Any] = {"store_url": str(where), "model": "feed", "label": "champion", "port": 0}
        settings |= {"log_requests": False, "deadline_ms": 5_000, "sync_seconds": 0.1}
        server = GatewayServer(Settings(**settings), model_server, versions=RegistryBook(models, "feed"))
        server.start()
        found = Newsroom(server, registry, where)
        closing.extend([server.stop, found.http.close])
        wait_for(lambda: found.http.get("/readyz").json()["model"]["version"] == 2)
        return found

    yield start
    for close in reversed(closing):
        close()


@pytest.fixture(scope="module")
def room(open_newsroom: Callable[[], Newsroom]) -> Newsroom:
    """The newsroom of a module's tests."""
    return open_newsroom()


@pytest.fixture
def visit(browser: Any, room: Newsroom) -> Iterator[Callable[..., Any]]:
    """Open a page of the console. In the end nothing was asked of another host, and nothing complained.

    `expected` are patterns of what the browser's console may say.
    """
    complaints: list[str] = []
    allowed: list[str] = []
    contexts: list[Any] = []

    def open_page(
        path: str, *, of: Newsroom | None = None, expected: str = "", scheme: str = "light", width: int = 1280
    ) -> Any:
        url = (of or room).server.url
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, base_url=url)
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()
        if expected:
            allowed.append(expected)

        def on_request(request: Any) -> None:
            address = urlsplit(request.url)
            if address.scheme not in ("blob", "data") and f"http://{address.netloc}" != url:
                complaints.append(f"request to {request.url}")

        page.on("request", on_request)
        page.on("console", lambda each: complaints.append(each.text) if each.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    told = [each for each in complaints if not any(re.search(pattern, each) for pattern in allowed)]
    assert not told
