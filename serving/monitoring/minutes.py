"""The last minutes of traffic, minute by minute: rough, and now. What a window was like, `measure` says later."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import orjson
import sqlalchemy as sa

from serving.events import Store
from serving.events.tables import EVENTS, POSITIVE_KINDS, SLATES

_MINUTE = 60_000_000
MOST_SLATES = 10_000
_MOST_EVENTS = 50_000


class Minute(NamedTuple):
    """The slates of a minute.

    Args:
        start: Microseconds since 1970.
        shown: Items on them.
        wanted: Of these, how many were wanted by now.
        fallbacks: Slates that the model did not make.
        latency_p50_ms, latency_p99_ms: None where no latency is known.
    """

    start: int
    slates: int
    shown: int
    wanted: int
    fallbacks: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None


def read_minutes(
    store: Store, now: int, *, minutes: int = 30, positive_rating: float | None = None
) -> tuple[list[Minute], int]:
    """The last minutes, the current one last, and since when all is in them: of busier sites the last `MOST_SLATES`
    slates alone are read.

    An item counts as wanted in the minute in which it was shown, and where the event names its request.

    Args:
        now: Microseconds since 1970.
        positive_rating: Ratings below it are not wanted; None counts every rating.

    Raises:
        StoreAway: The database cannot be reached.
    """
    first = now // _MINUTE * _MINUTE - (minutes - 1) * _MINUTE
    slate, event = SLATES.c, EVENTS.c
    slates = sa.select(slate.request_id, slate.at, slate.fallback, slate["items"], slate.latency_ms)
    slates = slates.where(slate.at >= first, slate.at <= now).order_by(slate.at.desc()).limit(MOST_SLATES)
    positive: sa.ColumnElement[bool] = event.kind.in_(POSITIVE_KINDS)
    if positive_rating is not None:
        positive &= (event.kind != "rating") | (event.value >= positive_rating)
    events = sa.select(event.request_id, event.item_id).where(
        event.at >= first, event.request_id.is_not(None), positive
    )
    with store.reading() as connection:
        rows = connection.execute(slates).all()
        # By the time of events, which has an index; those of these slates come later than the slates.
        wanted = {tuple(row) for row in connection.execute(events.order_by(event.at.desc()).limit(_MOST_EVENTS))}
    since = rows[-1].at if len(rows) == MOST_SLATES else first
    by_minute: dict[int, list[Any]] = {first + place * _MINUTE: [] for place in range(minutes)}
    for row in rows:
        by_minute[row.at // _MINUTE * _MINUTE].append(row)
    return [_minute(start, found, wanted) for start, found in by_minute.items()], since


def _minute(start: int, rows: list[Any], wanted: set[tuple[Any, ...]]) -> Minute:
    shown = [(row.request_id, entry[0]) for row in rows for entry in orjson.loads(row._mapping["items"])]
    latency = [row.latency_ms for row in rows if row.latency_ms is not None]
    middle, most = (float(each) for each in np.quantile(latency, (0.5, 0.99))) if latency else (None, None)
    fallbacks = sum(row.fallback is not None for row in rows)
    return Minute(start, len(rows), len(shown), sum(each in wanted for each in shown), fallbacks, middle, most)
