"""The event log and the log of slates: appended, and never changed but by an erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from serving.events.group_commit import GroupCommit
from serving.events.store import Store
from serving.events.tables import EVENTS, SLATES

Event = Mapping[str, Any]
Slate = Mapping[str, Any]
_EVENT_COLUMNS = tuple(EVENTS.columns.keys())
_SLATE_COLUMNS = tuple(SLATES.columns.keys())


class EventLog:
    """Appends events durably, each event_id once.

    Args:
        store: An open store.
        most_waiting: Events in memory, waiting for the disk.

    Example:
        >>> from serving import EventLog, Store, wall_clock
        >>> event = {"event_id": "e1", "user_id": "u1", "item_id": "a1", "kind": "click", "at": wall_clock()}
        >>> with Store("store-of-events") as store:
        ...     log = EventLog(store)
        ...     first, again = log.append([event]).result(), log.append([event]).result()
        ...     log.close()
        >>> first, again
        (1, 0)
    """

    def __init__(self, store: Store, *, most_waiting: int = 20_000) -> None:
        self._store = store
        self._insert = ignoring_known(store, EVENTS).returning(EVENTS.c.event_id)
        self._writer: GroupCommit[Sequence[Event]] = GroupCommit(self._write, name="events", most_waiting=most_waiting)

    @property
    def waiting(self) -> int:
        return self._writer.waiting

    def append(self, events: Sequence[Event]) -> Future[int]:
        """How many of the events were new, once they are on disk. Columns that are left out are null.

        The future raises `StoreAway` where nothing could be written.

        Raises:
            StoreBusy: Too many events are waiting.
        """
        return self._writer.submit(events, len(events))

    def close(self, seconds: float = 30.0) -> None:
        """Write what is waiting."""
        self._writer.close(seconds)

    def _write(self, batches: Sequence[Sequence[Event]]) -> list[int]:
        # The first batch that brings an event has brought it. In one order, or two writers could wait for one another.
        first: dict[str, tuple[int, Event]] = {}
        for place, batch in enumerate(batches):
            for event in batch:
                first.setdefault(event["event_id"], (place, event))
        rows = [{name: first[key][1].get(name) for name in _EVENT_COLUMNS} for key in sorted(first)]
        new = [0] * len(batches)
        if rows:
            with self._store.writing() as connection:
                for (event_id,) in connection.execute(self._insert, rows):
                    new[first[event_id][0]] += 1
        return new


class SlateLog:
    """Records slates off the hot path: what cannot be written is dropped, and counted.

    Args:
        most_waiting: Slates in memory.
    """

    def __init__(self, store: Store, *, most_waiting: int = 5_000, pause_seconds: float = 0.2) -> None:
        self._store = store
        self._insert = ignoring_known(store, SLATES)
        self._writer: GroupCommit[Slate | None] = GroupCommit(
            self._write, name="slates", most_waiting=most_waiting, pause_seconds=pause_seconds
        )

    @property
    def waiting(self) -> int:
        return self._writer.waiting

    def append(self, slate: Slate) -> Future[None]:
        """Record a slate soon.

        Raises:
            StoreBusy: Too many are waiting.
        """
        return self._writer.submit(slate)

    def flush(self) -> Future[None]:
        """Done once everything that was appended before is written or dropped."""
        return self._writer.submit(None, 0)

    def close(self, seconds: float = 30.0) -> None:
        """Write what is waiting."""
        self._writer.close(seconds)

    def _write(self, slates: Sequence[Slate | None]) -> list[None]:
        rows = [{name: slate.get(name) for name in _SLATE_COLUMNS} for slate in slates if slate is not None]
        if rows:
            with self._store.writing() as connection:
                connection.execute(self._insert, rows)
        return [None] * len(slates)


def ignoring_known(store: Store, table: sa.Table) -> Any:
    """An insert that passes over rows whose key is there."""
    dialect: Any = sqlite if store.is_sqlite else postgresql
    return dialect.insert(table).on_conflict_do_nothing()
