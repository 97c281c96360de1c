"""A log of any size, made in chunks: slates with their clicks, and clicks that come from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data import schema
from pipelines.data.dataset import DatasetInfo, new_dataset, write_info

_SHOWN = 7
_CLICK_RATE = 0.12
# Of all events: most page views of a publisher come from search, links and other front pages than one's own.
_LONE_CLICKS = 0.2
_START = np.datetime64("2025-01-01T00:00:00", "us")
_MICROSECONDS = 28 * 86_400_000_000


def write_dataset(folder: Path, events: int, items: int, users: int, *, seed: int = 1, chunk: int = 500_000) -> None:
    """A dataset folder with about as many `events`, in the order of time; `chunk` of them are in memory at once."""
    rng = np.random.default_rng(seed)
    log = _Log(rng, _Drawn.of(rng, "item", items, 0.9), _Drawn.of(rng, "user", users, 0.5))
    chunks = max(1, round(events / chunk))
    written = 0
    with new_dataset(folder) as draft:
        with pq.ParquetWriter(draft / "events.parquet", schema.EVENTS, compression="zstd") as writer:
            for number in range(chunks):
                table = log.chunk(number, events // chunks, _MICROSECONDS // chunks, written)
                writer.write_table(table)
                written += len(table)
        columns = {name: pa.nulls(items, schema.ITEMS.field(name).type) for name in schema.ITEMS.names}
        pq.write_table(pa.table(columns | {"item_id": log.items.ids}, schema.ITEMS), draft / "items.parquet")
        info = {"name": folder.name, "source": "benchmark", "languages": [], "report": {}, "first_at": None}
        counts = {"last_at": None, "items": items, "events": written, "users": users}
        write_info(draft, DatasetInfo.model_validate(info | counts))


@dataclass(frozen=True)
class _Drawn:
    """Ids in the order of their frequency, which falls with the rank by Zipf's law."""

    ids: pa.Array
    cumulated: np.ndarray

    @classmethod
    def of(cls, rng: np.random.Generator, name: str, size: int, exponent: float) -> _Drawn:
        ids = pa.array([f"{name}-{number}" for number in rng.permutation(size)])
        return cls(ids, np.cumsum(1 / np.arange(1, size + 1) ** exponent))

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return np.searchsorted(self.cumulated, rng.random(size) * self.cumulated[-1]).astype(np.int32)


@dataclass(frozen=True)
class _Log:
    rng: np.random.Generator
    items: _Drawn
    users: _Drawn

    def chunk(self, number: int, size: int, span: int, first: int) -> pa.Table:
        """About `size` events within `span` microseconds; event ids are numbered from `first`."""
        rng, lone = self.rng, round(size * _LONE_CLICKS)
        requests = round((size - lone) / (_SHOWN * (1 + _CLICK_RATE)))
        asked, user = rng.integers(0, span, requests), self.users.draw(rng, requests)
        # Impressions, then the clicks on them (within a minute, at the span's end at the latest), then the others.
        request = np.repeat(np.arange(requests), _SHOWN)
        position = np.tile(np.arange(_SHOWN), requests)
        item = self.items.draw(rng, len(request))
        clicked = np.flatnonzero(rng.random(len(request)) < _CLICK_RATE)
        clicked_at = np.minimum(asked[request[clicked]] + rng.integers(1_000_000, 60_000_000, len(clicked)), span - 1)
        none = np.full(lone, -1)
        at = np.r_[asked[request], clicked_at, rng.integers(0, span, lone)]
        order = np.argsort(at, kind="stable")
        is_click = (np.arange(len(at)) >= len(request))[order]
        who = np.r_[user[request], user[request[clicked]], self.users.draw(rng, lone)][order]
        what = np.r_[item, item[clicked], self.items.draw(rng, lone)][order]
        slate = np.r_[request, request[clicked], none][order]
        place = np.r_[position, position[clicked], none][order]
        request_ids = pa.array([f"r{number}-{each}" for each in range(requests)])
        columns = {name: pa.nulls(len(at), schema.EVENTS.field(name).type) for name in schema.EVENTS.names}
        columns |= {
            "event_id": pa.array([f"e{each}" for each in range(first, first + len(at))]),
            "user_id": self.users.ids.take(pa.array(who)),
            "item_id": self.items.ids.take(pa.array(what)),
            "kind": pa.array(["impression", "click"]).take(pa.array(is_click.astype(int))),
            "at": pa.array(_START + number * span + at[order]).cast(schema.TIMESTAMP),
            "request_id": request_ids.take(pa.array(slate, mask=slate < 0)),
            "position": pa.array(place.astype(np.int32), mask=slate < 0),
            "dwell_seconds": pa.array(rng.exponential(40, len(at)).astype(np.float32), mask=~is_click),
            "device": pa.array(["mobile", "desktop"]).take(pa.array(who % 2)),
        }
        return pa.table(columns, schema.EVENTS)
