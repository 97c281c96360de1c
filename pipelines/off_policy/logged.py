"""The answers of a store that were partly left to chance, and what their users had done by then."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from serving.events import Store
from serving.events.tables import EVENTS, POSITIVE_KINDS
from serving.events.users import UserState, state_of
from serving.experiments.exposures import INTERLEAVED, read_clicks, read_slates

_CHUNK = 500
_KINDS = (*POSITIVE_KINDS, "dislike")
_COLUMNS = ("item_id", "kind", "at", "request_id", "dwell_seconds", "scroll_depth", "value", "device")


class Slate(NamedTuple):
    """An answer: items from the top, with the probability of each to stand there, and whether it was wanted."""

    request_id: str
    user_id: str
    at: int  # microseconds since 1970
    language: str
    device: str
    items: list[str]
    propensity: list[float]
    wanted: list[bool]


def explored_slates(store: Store, start: int, end: int, most: int) -> list[Slate]:
    """Answers of a model between two times (microseconds since 1970) in which something could have been another item.

    At most `most`: those whose request_id has the smallest hash, so that the same store gives the same answers. Left
    out are fallbacks, and interleaved answers, whose probabilities are not known.
    """
    chosen: list[tuple[int, str, Any]] = []
    for row in read_slates(store, start, end):
        if row.fallback is not None or f":{INTERLEAVED}" in (row.variant or ""):
            continue
        drawn = -int.from_bytes(hashlib.blake2b(row.request_id.encode(), digest_size=8).digest(), "big")
        if len(chosen) == most and drawn <= chosen[0][0]:
            continue
        if all(item[3] >= 1 for item in orjson.loads(row.items)):
            continue
        add = heapq.heappush if len(chosen) < most else heapq.heapreplace
        add(chosen, (drawn, row.request_id, row))
    clicks = read_clicks(store, start, end)
    found = []
    for *_, row in sorted(chosen, key=lambda each: (each[2].at, each[1])):
        items = orjson.loads(row.items)
        ids, wanted = [item[0] for item in items], clicks.get(row.request_id, {})
        found.append(
            Slate(
                row.request_id,
                row.user_id,
                row.at,
                row.language or "",
                row.device or "",
                ids,
                [float(item[3]) for item in items],
                [item in wanted for item in ids],
            )
        )
    return found


def states_then(
    store: Store, slates: Sequence[Slate], *, history: int, seen: int, positive_rating: float | None = None
) -> list[UserState]:
    """Each user's state at the moment of the answer, as the gateway read it."""
    events: dict[str, list[Any]] = {}
    users = sorted({slate.user_id for slate in slates})
    last = max((slate.at for slate in slates), default=0)
    for row in _events(store, users, last):
        events.setdefault(row.user_id, []).append(row)
    found = []
    for slate in slates:
        before = [row[1:] for row in events.get(slate.user_id, []) if row.at < slate.at][:seen]
        found.append(state_of(before, history=history, positive_rating=positive_rating))
    return found


def _events(store: Store, users: Sequence[str], end: int) -> Iterator[Any]:
    """Events of these users before a time, the latest first."""
    columns = [EVENTS.c[name] for name in ("user_id", *_COLUMNS)]
    for start in range(0, len(users), _CHUNK):
        chosen = EVENTS.c.user_id.in_(users[start : start + _CHUNK]) & EVENTS.c.kind.in_(_KINDS) & (EVENTS.c.at < end)
        query = sa.select(*columns).where(chosen).order_by(EVENTS.c.at.desc(), EVENTS.c.event_id.desc())
        with store.reading() as connection:
            yield from connection.execute(query).all()
