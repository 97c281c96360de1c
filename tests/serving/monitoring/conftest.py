"""Traffic that tests decide: users, slates and events, written into stores of both kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.events import Store
from serving.events.items import put_items
from serving.events.tables import EVENTS, SLATES

MICRO = 1_000_000
HOUR = 3_600 * MICRO
DAY = 24 * HOUR
START = 20_000 * DAY
HISTORY = 8
CATEGORIES = ("sport", "food", "politics", "weather")


@dataclass
class Traffic:
    """Rows as the store has them."""

    slates: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def slate(self, user: str, at: int, items: Sequence[str], **more: Any) -> str:
        request = f"r{at}-{len(self.slates)}"
        shown = [[item, 1.0 - 0.1 * place, place, 1.0, ""] for place, item in enumerate(items)]
        row = {"request_id": request, "user_id": user, "at": at, "placement": "home", "items": json.dumps(shown)}
        row |= {"model": "feed", "version": 1, "variant": "default", "language": "en", "device": "mobile"}
        self.slates.append(dict.fromkeys(SLATES.columns.keys()) | row | more)
        return request

    def event(self, user: str, item: str, at: int, kind: str = "click", **more: Any) -> None:
        row = {"event_id": f"e{at}-{len(self.events)}", "user_id": user, "item_id": item, "kind": kind, "at": at}
        self.events.append(dict.fromkeys(EVENTS.columns.keys()) | row | more)

    def write(self, store: Store) -> None:
        with store.writing() as connection:
            for table, rows in ((SLATES, self.slates), (EVENTS, self.events)):
                if rows:
                    connection.execute(table.insert(), rows)


def put_catalogue(store: Store, start: int = START, count: int = 40) -> None:
    """Items i00 to i39: an hour younger each, the last ones published within the first window."""
    items = [
        {
            "item_id": f"i{number:02}",
            "category": CATEGORIES[number % 4],
            "language": "en",
            "published_at": start - (count - 4 - number) * HOUR,
            "removed_at": start - HOUR if number == 0 else None,
        }
        for number in range(count)
    ]
    put_items(store, items, None)


def a_day(
    number: int, users: int = 150, *, first: int = START, seed: int = 0, dwell: float = 40.0, **more: Any
) -> Traffic:
    """One day of users who come once or twice, see five items and want some of them."""
    rng = np.random.default_rng([seed, number])
    traffic = Traffic()
    start = first + number * DAY
    for user in range(users):
        name = f"u{user:03}"
        taste = np.random.default_rng([seed, 7, user])
        own = {
            "language": taste.choice(["en", "de", "fr"], p=[0.6, 0.3, 0.1]),
            "device": taste.choice(["mobile", "desktop"]),
        }
        for visit in range(int(rng.integers(1, 3))):
            at = start + int(rng.integers(visit * DAY // 2, (visit + 1) * DAY // 2))
            items = [f"i{item:02}" for item in rng.choice(np.arange(1, 40), 5, replace=False)]
            request = traffic.slate(name, at, items, **(own | more))
            for place, item in enumerate(items):
                if rng.random() < 0.3:
                    seconds = float(rng.lognormal(np.log(dwell), 0.5))
                    told = {"request_id": request, "dwell_seconds": seconds, "scroll_depth": float(rng.random())}
                    traffic.event(name, item, at + (place + 1) * 5 * MICRO, **told)
    return traffic


def the_past(users: int = 150) -> Traffic:
    """More than enough events of every user for a full history, from before the first day."""
    rng = np.random.default_rng(1)
    traffic = Traffic()
    for user in range(users):
        for number in range(HISTORY):
            item, at = int(rng.integers(1, 40)), START - int(rng.integers(1, 3 * DAY))
            told = {"dwell_seconds": float(rng.lognormal(np.log(40.0), 0.5)), "scroll_depth": float(rng.random())}
            traffic.event(f"u{user:03}", f"i{item:02}", at, request_id=f"{user} {number}", **told)
    return traffic


@pytest.fixture
def store(where: Path | str) -> Iterator[Store]:
    with Store(where) as opened:
        put_catalogue(opened)
        yield opened


@pytest.fixture
def local_store(tmp_path: Path) -> Iterator[Store]:
    """Where the kind of database makes no difference."""
    with Store(tmp_path / "local") as opened:
        put_catalogue(opened)
        yield opened
