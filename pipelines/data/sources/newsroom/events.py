"""From slates to rows of events, with the true click probability of each impression beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.data import schema
from pipelines.data.delimited import ROW
from pipelines.data.sources.newsroom.readers import SEGMENTS
from pipelines.data.sources.newsroom.simulation import Slates
from pipelines.data.sources.newsroom.sizes import END, SLATE
from pipelines.data.sources.newsroom.world import Newsroom

_MICRO = 1_000_000
_ROWS = 100_000  # of a batch, about


@dataclass(frozen=True)
class Batch:
    """Some of the events, and event_id and click_probability of the impressions among them."""

    events: pa.Table
    truth: pa.Table


class EventTables:
    """Numbers events and requests in the order in which they are made."""

    schema = pa.schema([pa.field(ROW, pa.int64()), *schema.EVENTS])

    def __init__(self, newsroom: Newsroom) -> None:
        self._user_ids = pa.array(newsroom.readers.ids, pa.string())
        self._devices = pa.array([SEGMENTS[place] for place in newsroom.readers.segment], pa.string())
        self._item_ids = pa.array(newsroom.articles.ids, pa.string())
        self._events = 0
        self._requests = 0

    def batches(self, hours: Iterable[Slates]) -> Iterator[Batch]:
        """Rows of about `_ROWS` events at a time."""
        waiting: list[Batch] = []
        for slates in hours:
            waiting.append(self._rows(slates))
            if sum(batch.events.num_rows for batch in waiting) >= _ROWS:
                yield _join(waiting)
                waiting = []
        if waiting:
            yield _join(waiting)

    def _rows(self, slates: Slates) -> Batch:
        requests = self._requests + 1 + np.arange(len(slates.user))
        self._requests += len(slates.user)
        shown = np.ones(slates.item.shape, dtype=bool)
        at = np.repeat(slates.at[:, None], SLATE, axis=1)
        ended = slates.clicked_at + slates.dwell
        parts = [
            self._kind("impression", shown, at, slates, requests),
            self._kind("click", slates.clicked, slates.clicked_at, slates, requests),
            self._kind("read", slates.read, ended, slates, requests),
            self._kind("like", slates.liked, ended + 1, slates, requests),
            self._kind("share", slates.shared, ended + 2, slates, requests),
        ]
        truth = {"event_id": parts[0]["event_id"], "click_probability": slates.probability.ravel().astype(np.float32)}
        return Batch(pa.concat_tables(parts), pa.table(truth))

    def _kind(self, kind: str, happened: np.ndarray, at: np.ndarray, slates: Slates, requests: np.ndarray) -> pa.Table:
        row, position = np.nonzero(happened)
        count = len(row)
        numbers = self._events + 1 + np.arange(count)
        self._events += count
        moment = np.minimum((at[row, position] * _MICRO).astype(np.int64), END * _MICRO - 1)
        dwell = kind in ("click", "read")
        columns = {
            ROW: pa.array(numbers),
            "event_id": _ids("e", numbers, 9),
            "user_id": self._user_ids.take(pa.array(slates.user[row])),
            "item_id": self._item_ids.take(pa.array(slates.item[row, position])),
            "kind": pa.repeat(pa.scalar(kind), count),
            "at": pa.array(moment, schema.TIMESTAMP),
            "request_id": _ids("r", requests[row], 8),
            "position": pa.array(position, pa.int32()),
            "dwell_seconds": _number(slates.dwell[row, position], dwell),
            "scroll_depth": _number(slates.scroll[row, position], dwell),
            "value": _number(position, False),
            # Of being shown, so it stands on what was shown.
            "propensity": _number(slates.propensity[row, position], kind == "impression"),
            "variant": pa.repeat(pa.scalar("publisher"), count),
            "device": self._devices.take(pa.array(slates.user[row])),
        }
        return pa.Table.from_arrays([columns[field.name] for field in self.schema], schema=self.schema)


def _join(batches: list[Batch]) -> Batch:
    return Batch(
        pa.concat_tables([batch.events for batch in batches]), pa.concat_tables([batch.truth for batch in batches])
    )


def _number(values: np.ndarray, known: bool) -> pa.Array:
    return pa.array(values.astype(np.float32)) if known else pa.nulls(len(values), pa.float32())


def _ids(prefix: str, numbers: np.ndarray, width: int) -> pa.Array:
    digits = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), width, "0")
    return pc.binary_join_element_wise(prefix, digits, "")
