"""Import of one million events and their items from Parquet."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.commands import BELFRY, measure

EVENTS, ITEMS, USERS = 1_000_000, 20_000, 100_000


def run() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder)
        found = measure(
            *(BELFRY, "data", "import", "table", folder / "events.parquet", folder / "data"),
            *("--items", folder / "items.parquet"),
        )
        lines = found.output.splitlines()
        print("\n".join(f"  {line}" for line in lines if "dataset written" not in line))
        print(
            f"{EVENTS:,} events: {found.seconds:.1f} s, {EVENTS / found.seconds:,.0f} events/s, "
            f"peak {found.peak_mib:,.0f} MiB"
        )


def _write(folder: Path) -> None:
    rng = np.random.default_rng(1)
    start = np.datetime64("2025-01-01T00:00:00", "us")
    events = {
        "user_id": pa.array([f"user-{number}" for number in rng.integers(0, USERS, EVENTS)]),
        "item_id": pa.array([f"item-{number}" for number in rng.zipf(1.3, EVENTS) % ITEMS]),
        "kind": pa.array(rng.choice(["click", "impression", "read"], EVENTS)),
        "at": pa.array(start + np.sort(rng.integers(0, 14 * 86_400_000_000, EVENTS))),
        "dwell_seconds": pa.array(rng.exponential(40, EVENTS).astype(np.float32)),
    }
    pq.write_table(pa.table(events), folder / "events.parquet")
    ids = [f"item-{number}" for number in range(ITEMS)]
    titles = [f"Title of the article number {number}" for number in range(ITEMS)]
    pq.write_table(pa.table({"item_id": ids, "title": titles, "body": titles}), folder / "items.parquet")
