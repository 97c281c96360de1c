"""A small data set with slates of which the last of each user is the test, and one whose last event is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import numpy as np
import pandas as pd
import pytest

from benchmarks.quality.protocol import View
from pipelines.data.sources.table import import_table

Make: TypeAlias = Callable[[int], View]
TOPICS = ("weather", "politics", "football")
ITEMS, USERS, TRAIN_SLATES, SHOWN = 30, 12, 8, 6


def _items() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    words = {topic: [f"{topic}{number}" for number in range(6)] for topic in TOPICS}
    return pd.DataFrame(
        {
            "item_id": f"i{number:02}",
            "title": " ".join(rng.choice(words[TOPICS[number % 3]], 4)),
            "category": TOPICS[number % 3],
            "tags": f"{TOPICS[number % 3]} {number % 2}",
        }
        for number in range(ITEMS)
    )


@pytest.fixture(scope="session")
def slates(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A function from the seed of the test clicks to the view; all else is the same. The test is the last day."""

    @cache
    def make(seed: int) -> View:
        rng = np.random.default_rng(2)
        test_rng = np.random.default_rng(seed)
        events = []
        for slate in range(TRAIN_SLATES + 1):
            for user in range(USERS):
                at = f"2025-01-{2 + slate:02}T{user:02}:00:00Z"
                shown = rng.choice(ITEMS, SHOWN, replace=False)
                chance = np.where(shown % 3 == user % 3, 0.8, 0.1)
                clicked = rng.random(SHOWN) < chance
                clicked[0], clicked[1] = True, False
                if slate == TRAIN_SLATES:
                    clicked = np.isin(np.arange(SHOWN), test_rng.choice(SHOWN, 2, replace=False))
                for position, (item, hit) in enumerate(zip(shown, clicked, strict=True)):
                    row = {"user_id": f"u{user:02}", "item_id": f"i{item:02}", "at": at}
                    row |= {"request_id": f"r{slate}-{user}", "position": position}
                    events.append(row | {"kind": "impression"})
                    if hit:
                        events.append(row | {"kind": "click"})
        folder = tmp_path_factory.mktemp("slates")
        pd.DataFrame(events).to_csv(folder / "events.csv", index=False)
        _items().to_csv(folder / "items.csv", index=False)
        import_table(folder / "events.csv", folder / "data", items=folder / "items.csv")
        return View.load(folder / "data")

    return make


@pytest.fixture(scope="session")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A function from the seed of each user's last event to the view; all else is the same."""

    @cache
    def make(seed: int) -> View:
        rng, test_rng = np.random.default_rng(3), np.random.default_rng(seed)
        events = []
        for user in range(20):
            read = rng.permutation(ITEMS)
            read = read[np.argsort(read % 3 != user % 3, kind="stable")][:9]
            last = test_rng.choice(np.setdiff1d(np.arange(ITEMS), read[:8]))
            for place, item in enumerate([*read[:8], last]):
                at = f"2025-01-{1 + place:02}T{user:02}:00:00Z"
                events.append({"user_id": f"u{user:02}", "item_id": f"i{item:02}", "at": at, "kind": "click"})
        folder = tmp_path_factory.mktemp("sequences")
        pd.DataFrame(events).to_csv(folder / "events.csv", index=False)
        _items().to_csv(folder / "items.csv", index=False)
        import_table(folder / "events.csv", folder / "data", items=folder / "items.csv")
        return View.load(folder / "data")

    return make
