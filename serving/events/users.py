"""What is known of a user: read from the log, and erased from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from serving.events.store import Store
from serving.events.tables import EVENTS, POSITIVE_KINDS, SLATES

_SECOND = 1_000_000
_SEEN_KINDS = (*POSITIVE_KINDS, "dislike")
_COLUMNS = ("item_id", "kind", "at", "request_id", "dwell_seconds", "scroll_depth", "value", "device")
# Text, since it is read for most requests: to build the statement anew takes longer than to run it.
_LATEST = sa.text(
    f"SELECT {', '.join(_COLUMNS)} FROM {EVENTS.name} WHERE user_id = :user_id"
    f" AND kind IN ({', '.join(repr(kind) for kind in _SEEN_KINDS)}) ORDER BY at DESC, event_id DESC LIMIT :seen"
)
_LATEST_BEFORE = sa.text(_LATEST.text.replace(" AND kind", " AND at < :before AND kind"))


class UserState(NamedTuple):
    """A user's history, oldest first, and what need not be shown again.

    Args:
        item_ids, at_seconds, dwell_seconds, scroll_depth: (H,) of the history; what is not known is 0.
        seen: Items of the history and before it, and those disliked, the latest first.
        device: Of the latest event that says one, or "".
    """

    item_ids: list[str]
    at_seconds: list[float]
    dwell_seconds: list[float]
    scroll_depth: list[float]
    seen: list[str]
    device: str


NOBODY = UserState([], [], [], [], [], "")


def read_state(
    store: Store, user_id: str, *, history: int, seen: int, positive_rating: float | None = None
) -> UserState:
    """Read a user's state from the log.

    Click, read and like of one showing are one event of the history, as in training: at the time of the first, with
    the largest dwell and scroll depth.

    Args:
        history: H, events kept.
        seen: Events looked back at.
        positive_rating: Ratings below it are not wanted; None counts every rating.

    Raises:
        StoreAway: The database cannot be reached.
    """
    with store.reading() as connection:
        rows = connection.execute(_LATEST, {"user_id": user_id, "seen": seen}).all()
    return state_of(rows, history=history, positive_rating=positive_rating)


def read_states_before(
    store: Store,
    asked: Sequence[tuple[str, int]],
    *,
    history: int,
    seen: int,
    positive_rating: float | None = None,
) -> Iterator[UserState]:
    """The states of users as they were at a moment each, without events of that moment: (user_id, microseconds).

    Raises:
        StoreAway: The database cannot be reached.
    """
    with store.reading() as connection:
        for user_id, before in asked:
            parameters = {"user_id": user_id, "before": before, "seen": seen}
            rows = connection.execute(_LATEST_BEFORE, parameters).all()
            yield state_of(rows, history=history, positive_rating=positive_rating)


def state_of(rows: Sequence[Any], *, history: int, positive_rating: float | None) -> UserState:
    """The state that a user's rows make, which are the latest first."""
    showings: dict[tuple[str, str] | int, list[Any]] = {}
    for place, (item, kind, at, request, dwell, scroll, value, _) in enumerate(reversed(rows)):
        if kind == "dislike" or (kind == "rating" and positive_rating is not None and (value or 0) < positive_rating):
            continue
        entry = showings.setdefault(place if request is None else (item, request), [item, at, 0.0, 0.0])
        entry[2], entry[3] = max(entry[2], dwell or 0.0), max(entry[3], scroll or 0.0)
    kept = list(showings.values())[-history:] if history else []
    return UserState(
        [each[0] for each in kept],
        [each[1] / _SECOND for each in kept],
        [each[2] for each in kept],
        [each[3] for each in kept],
        list(dict.fromkeys(row[0] for row in rows)),
        next((row[7] for row in rows if row[7]), ""),
    )


class Erased(NamedTuple):
    """What an erasure came to.

    Args:
        rows: Events and slates that were deleted.
        complete: Whether nothing is left of them in SQLite's log either, which somebody may be reading: then
            `Store.forget_old_pages` is to be asked again.
    """

    rows: int
    complete: bool


def erase(store: Store, user_id: str) -> Erased:
    """Delete a user's events and slates for good.

    Other replicas see that there was an erasure, not whose. What they took before, they may write after it: see
    `erase_late`.

    Raises:
        StoreAway: The database cannot be reached or written: nothing was deleted.
    """
    with store.writing() as connection:
        rows = sum(
            connection.execute(table.delete().where(table.c.user_id == user_id)).rowcount for table in (EVENTS, SLATES)
        )
        store.count(connection, "erasures")
    return Erased(rows, store.forget_old_pages())


def erase_late(store: Store, user_id: str, at: int) -> Erased:
    """Delete what was written of a user after their erasure `at` (microseconds since 1970), but is of before it.

    These are events of that time, and all slates: until a replica knows of the erasure, it makes them of what it
    remembers. Events of somebody who came back stay.

    Raises:
        StoreAway: As for `erase`.
    """
    events = EVENTS.delete().where(EVENTS.c.user_id == user_id, EVENTS.c.at <= at)
    slates = SLATES.delete().where(SLATES.c.user_id == user_id)
    with store.writing() as connection:
        rows = sum(connection.execute(each).rowcount for each in (events, slates))
    return Erased(rows, store.forget_old_pages())
