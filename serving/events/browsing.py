"""What somebody looks up: items with what is known of them, their pictures, and who was there lately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from serving.events.items import read_tags
from serving.events.store import Store
from serving.events.tables import EVENTS, ITEMS, POSITIVE_KINDS

# Tables grow without end: what has no index is looked for among the last rows alone.
LATEST_ITEMS = 20_000
LATEST_EVENTS = 20_000


class FoundItem(NamedTuple):
    """An item without its body and picture. Times are microseconds since 1970, or None."""

    item_id: str
    title: str
    language: str
    category: str
    tags: tuple[str, ...]
    published_at: int | None
    removed_at: int | None
    has_image: bool


class ActiveUser(NamedTuple):
    """A user, with the time of their latest event in microseconds since 1970, and how many of the latest are theirs."""

    user_id: str
    at: int
    events: int


_NAMES = ("item_id", "title", "language", "category", "tags", "published_at", "removed_at")
_FOUND = [*(ITEMS.c[name] for name in _NAMES), ITEMS.c.image.is_not(None).label("has_image")]


def find_items(store: Store, item_ids: Sequence[str]) -> list[FoundItem]:
    """The stored of these items, in this order.

    Raises:
        StoreAway: The database cannot be reached.
    """
    with store.reading() as connection:
        rows = connection.execute(sa.select(*_FOUND).where(ITEMS.c.item_id.in_(item_ids))).all()
    found = {row.item_id: _found(row) for row in rows}
    return [found[item_id] for item_id in dict.fromkeys(item_ids) if item_id in found]


def search_items(store: Store, text: str, most: int) -> list[FoundItem]:
    """Items whose id or title holds a text, in any case; those that changed last come first.

    Only the `LATEST_ITEMS` that changed last are looked through. SQLite knows capitals of ASCII alone.

    Raises:
        StoreAway: The database cannot be reached.
    """
    latest = sa.select(*_FOUND, ITEMS.c.changed).order_by(ITEMS.c.changed.desc(), ITEMS.c.item_id).limit(LATEST_ITEMS)
    inner = latest.subquery()
    query = sa.select(inner).order_by(inner.c.changed.desc(), inner.c.item_id).limit(most)
    if text:
        held = inner.c.title.icontains(text, autoescape=True) | inner.c.item_id.icontains(text, autoescape=True)
        query = query.where(held)
    with store.reading() as connection:
        return [_found(row) for row in connection.execute(query)]


def read_image(store: Store, item_id: str) -> bytes | None:
    """An item's picture as a file's bytes; None where there is none.

    Raises:
        StoreAway: The database cannot be reached.
    """
    with store.reading() as connection:
        found: bytes | None = connection.execute(
            sa.select(ITEMS.c.image).where(ITEMS.c.item_id == item_id)
        ).scalar_one_or_none()
    return found or None


def active_users(store: Store, most: int, prefix: str = "") -> list[ActiveUser]:
    """Users who wanted something, the latest first, by the log's latest `LATEST_EVENTS`.

    Args:
        prefix: Only those whose id begins so.

    Raises:
        StoreAway: The database cannot be reached.
    """
    columns = (EVENTS.c.user_id, EVENTS.c.at, EVENTS.c.kind)
    latest = sa.select(*columns).order_by(EVENTS.c.at.desc()).limit(LATEST_EVENTS).subquery()
    at = sa.func.max(latest.c.at)
    query = sa.select(latest.c.user_id, at.label("at"), sa.func.count().label("events"))
    query = query.where(latest.c.kind.in_(POSITIVE_KINDS)).group_by(latest.c.user_id)
    if prefix:
        query = query.where(sa.func.substr(latest.c.user_id, 1, len(prefix)) == prefix)
    with store.reading() as connection:
        rows = connection.execute(query.order_by(at.desc(), latest.c.user_id).limit(most))
        return [ActiveUser(*row) for row in rows]


def _found(row: Any) -> FoundItem:
    texts = (row.title or "", row.language or "", row.category or "")
    return FoundItem(row.item_id, *texts, read_tags(row.tags), row.published_at, row.removed_at, bool(row.has_image))
