"""One window of slates, and what their users wanted of them, read page by page into columns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import sqlalchemy as sa

from serving.events import Store
from serving.events.tables import EVENTS, ITEMS, POSITIVE_KINDS, SLATES

SECOND = 1_000_000  # the store's microseconds
LAG_SECONDS = 3_600.0
_CHUNK = 500
LABELS = ("model", "variant", "fallback", "language", "device", "placement")


@dataclass(frozen=True)
class Window:
    """The R slates from `start` up to, but without, `end` (microseconds since 1970), by time; they show S items.

    Slate r shows `item[offsets[r] : offsets[r + 1]]`. What a slate recommended counts as shown.
    """

    start: int
    end: int
    user_ids: np.ndarray  # (U,) str, each once
    known: np.ndarray  # (U,) bool: the log has something of them from before the window
    request: np.ndarray  # (R,) uint64, a hash of the request_id: whoever samples by it samples the same again
    user: np.ndarray  # (R,) place in user_ids
    at: np.ndarray  # (R,) microseconds since 1970
    version: np.ndarray  # (R,) of the model, -1 for none
    latency_ms: np.ndarray  # (R,) NaN for unknown
    labels: dict[str, np.ndarray]  # (R,) str each, of `LABELS`; "" for unknown, and for no fallback
    offsets: np.ndarray  # (R + 1,)
    item: np.ndarray  # (S,) place in item_ids
    score: np.ndarray  # (S,) NaN for none
    wanted: np.ndarray  # (S,) bool: a positive event of that request came in time
    dwell: np.ndarray  # (S,) seconds, the longest of its events; NaN for unknown
    scroll: np.ndarray  # (S,) the same of the depth
    item_ids: np.ndarray  # (N,) str
    category: np.ndarray  # (N,) str, "" for unknown
    since: np.ndarray  # (N,) when it was published, or else put, in microseconds since 1970; 0 for unknown
    offered: int  # items that were on offer at some moment of the window

    def __len__(self) -> int:
        return len(self.user)

    @property
    def slate(self) -> np.ndarray:
        """(S,) the slate that each shown item is of."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))


def read_window(
    store: Store,
    start: int,
    end: int,
    *,
    lag_seconds: float = LAG_SECONDS,
    positive_rating: float | None = None,
    page: int = 10_000,
) -> Window:
    """Read a window. Beside its columns, a page of rows and the window's request ids are in memory at once.

    Args:
        start, end: Microseconds since 1970; `end` is no longer inside.
        lag_seconds: How long after `end` an event of a slate still counts.
        positive_rating: Ratings below it are not wanted; None counts every rating.
        page: Rows read at once.

    Raises:
        StoreAway: The database cannot be reached.
    """
    rows: dict[str, int] = {}
    users, items = _Places(), _Places()
    labels = {name: _Places() for name in LABELS}
    columns: dict[str, list[Any]] = {name: [] for name in ("user", "at", "version", "latency_ms", "size", *LABELS)}
    shown: dict[str, list[Any]] = {"item": [], "score": []}
    request: list[np.ndarray] = []
    for slates in _pages(store, SLATES, "request_id", start, end, page):
        read = [orjson.loads(each.items) for each in slates]
        rows.update((each.request_id, len(rows)) for each in slates)
        request.append(np.array([_hash(each.request_id) for each in slates], np.uint64))
        found: dict[str, Any] = {
            name: [codes[getattr(each, name) or ""] for each in slates] for name, codes in labels.items()
        }
        found |= {"user": [users[each.user_id] for each in slates], "at": [each.at for each in slates]}
        found["version"] = [-1 if each.version is None else each.version for each in slates]
        found["latency_ms"] = [np.nan if each.latency_ms is None else each.latency_ms for each in slates]
        found["size"] = [len(each) for each in read]
        for name, values in found.items():
            columns[name].append(np.array(values, np.float64 if name == "latency_ms" else np.int64))
        shown["item"].append(np.array([items[entry[0]] for each in read for entry in each], np.int64))
        scores = [np.nan if entry[1] is None else entry[1] for each in read for entry in each]
        shown["score"].append(np.array(scores, np.float64))
    joined = {
        name: _joined(blocks, np.float64 if name == "latency_ms" else np.int64) for name, blocks in columns.items()
    }
    offsets = np.r_[0, np.cumsum(joined["size"])]
    item = _joined(shown["item"], np.int64)
    wanted, dwell, scroll = np.zeros(len(item), bool), np.full(len(item), np.nan), np.full(len(item), np.nan)
    until = end + int(lag_seconds * SECOND)
    for events in _pages(store, EVENTS, "event_id", start, until, page, _positive(positive_rating)):
        for event in events:
            row, place = rows.get(event.request_id), items.get(event.item_id)
            if row is None or place is None:
                continue
            there = np.flatnonzero(item[offsets[row] : offsets[row + 1]] == place)
            if len(there):
                entry = offsets[row] + there[0]
                wanted[entry] = True
                dwell[entry] = np.fmax(dwell[entry], _number(event.dwell_seconds))
                scroll[entry] = np.fmax(scroll[entry], _number(event.scroll_depth))
    category, since = _facts(store, items.names)
    return Window(
        start=start,
        end=end,
        user_ids=_strings(users.names),
        known=_known(store, users.names, start),
        request=np.concatenate(request) if request else np.zeros(0, np.uint64),
        user=joined["user"],
        at=joined["at"],
        version=joined["version"],
        latency_ms=joined["latency_ms"],
        labels={name: _strings(codes.names)[joined[name]] for name, codes in labels.items()},
        offsets=offsets,
        item=item,
        score=_joined(shown["score"], np.float64),
        wanted=wanted,
        dwell=dwell,
        scroll=scroll,
        item_ids=_strings(items.names),
        category=category,
        since=since,
        offered=_offered(store, start, end),
    )


def count_positives(store: Store, start: int, end: int, positive_rating: float | None = None) -> int:
    """Positive events from `start` up to `end`, in microseconds since 1970.

    Raises:
        StoreAway: The database cannot be reached.
    """
    within = (EVENTS.c.at >= start) & (EVENTS.c.at < end) & _is_positive(positive_rating)
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(EVENTS).where(within)).scalar_one())


class _Places(dict[str, int]):
    """A place for each different string, in the order of their first appearance."""

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]

    @property
    def names(self) -> list[str]:
        return list(self)


def _pages(
    store: Store, table: sa.Table, key: str, start: int, end: int, rows: int, where: Any = None
) -> Iterator[Sequence[Any]]:
    """Rows of a time, in its order and then the key's."""
    order = (table.c.at, table.c[key])
    query = sa.select(table).where(table.c.at >= start, table.c.at < end).order_by(*order).limit(rows)
    query = query if where is None else query.where(where)
    last: Any = None
    while True:
        after = query if last is None else query.where(sa.tuple_(*order) > sa.tuple_(last.at, getattr(last, key)))
        with store.reading() as connection:
            page = connection.execute(after).all()
        if page:
            yield page
        if len(page) < rows:
            return
        last = page[-1]


def _is_positive(positive_rating: float | None) -> sa.ColumnElement[bool]:
    wanted: sa.ColumnElement[bool] = EVENTS.c.kind.in_(POSITIVE_KINDS)
    if positive_rating is not None:
        wanted &= (EVENTS.c.kind != "rating") | (EVENTS.c.value >= positive_rating)
    return wanted


def _positive(positive_rating: float | None) -> sa.ColumnElement[bool]:
    return _is_positive(positive_rating) & EVENTS.c.request_id.is_not(None)


def _facts(store: Store, item_ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The categories and times of items; an item that the store does not know has neither."""
    place = {item_id: row for row, item_id in enumerate(item_ids)}
    category, since = _strings([""] * len(item_ids)), np.zeros(len(item_ids), np.int64)
    columns = (ITEMS.c.item_id, ITEMS.c.category, ITEMS.c.published_at, ITEMS.c.put_at)
    with store.reading() as connection:
        for begin in range(0, len(item_ids), _CHUNK):
            chosen = ITEMS.c.item_id.in_(item_ids[begin : begin + _CHUNK])
            for row in connection.execute(sa.select(*columns).where(chosen)):
                category[place[row.item_id]] = row.category or ""
                since[place[row.item_id]] = row.published_at or row.put_at or 0
    return category, since


def _known(store: Store, user_ids: list[str], before: int) -> np.ndarray:
    known = set()
    # Of the index alone: whether an event is positive is not asked.
    query = sa.select(EVENTS.c.user_id, sa.func.min(EVENTS.c.at)).group_by(EVENTS.c.user_id)
    with store.reading() as connection:
        for begin in range(0, len(user_ids), _CHUNK):
            chosen = EVENTS.c.user_id.in_(user_ids[begin : begin + _CHUNK])
            known |= {user for user, first in connection.execute(query.where(chosen)) if first < before}
    return np.array([user in known for user in user_ids], bool)


def _offered(store: Store, start: int, end: int) -> int:
    since = sa.func.coalesce(ITEMS.c.published_at, ITEMS.c.put_at, 0)
    there = (since < end) & (ITEMS.c.removed_at.is_(None) | (ITEMS.c.removed_at > start))
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(ITEMS).where(there)).scalar_one())


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _joined(blocks: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype)


def _strings(values: Sequence[str]) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column
