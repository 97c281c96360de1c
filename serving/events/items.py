"""The catalogue: put, removed, and read by what has changed since."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from serving.events.store import Store
from serving.events.tables import EVENTS, ITEMS, POSITIVE_KINDS

_TEXTS = ("title", "body", "language", "category")
_COLUMNS = [column.name for column in ITEMS.columns]
_CHUNK = 500


class ItemFacts(NamedTuple):
    """What the gateway keeps of every item. Times are microseconds since 1970, 0 for none."""

    item_id: str
    language: str
    category: str
    tags: tuple[str, ...]
    published_at: int
    removed_at: int
    put_at: int
    changed: int

    @property
    def since(self) -> int:
        """When it was published, or else put."""
        return self.published_at or self.put_at


class ItemContent(NamedTuple):
    """What a model reads of an item; what is not known is empty."""

    item_id: str
    title: str
    body: str
    language: str
    category: str
    tags: tuple[str, ...]
    image: bytes


def put_items(store: Store, items: Sequence[Mapping[str, Any]], put_at: int | None) -> int:
    """Add or replace items, durably, and return the number of the change. Columns left out are null; `tags` is a list.

    Args:
        store: An open store.
        items: With item_id, and any of title, body, language, category, tags, image, published_at (microseconds since
            1970).
        put_at: Now, in microseconds since 1970; None for an import, which leaves as they are the items that were put or
            removed by the API: it may be older than these.

    Raises:
        StoreAway: The database cannot be reached or written; nothing was changed.

    Example:
        >>> from serving import Store, put_items, wall_clock
        >>> with Store("store-of-items") as store:
        ...     put_items(store, [{"item_id": "a1", "title": "Storm", "tags": ["sea"]}], wall_clock())
        1
    """
    dialect: Any = sqlite if store.is_sqlite else postgresql
    insert = dialect.insert(ITEMS)
    names = [name for name in _COLUMNS if name != "item_id"]
    insert = insert.on_conflict_do_update(
        index_elements=[ITEMS.c.item_id],
        set_={name: insert.excluded[name] for name in names},
        where=None if put_at is not None else ITEMS.c.put_at.is_(None) & ITEMS.c.removed_at.is_(None),
    )
    latest = {item["item_id"]: item for item in items}
    with store.writing() as connection:
        changed = store.count(connection, "items")
        rows = []
        for item in latest.values():
            row = {name: item.get(name) for name in _COLUMNS}
            tags = row["tags"]
            row["tags"] = None if tags is None else json.dumps(list(tags), ensure_ascii=False)
            rows.append(row | {"put_at": put_at, "changed": changed})
        for start in range(0, len(rows), _CHUNK):
            connection.execute(insert, rows[start : start + _CHUNK])
    return changed


def remove_item(store: Store, item_id: str, at: int) -> bool:
    """Take an item off offer from `at` on, in microseconds since 1970; whether it was not yet.

    One that the store does not have may be in a model's index: it is stored as removed.

    Raises:
        StoreAway: The database cannot be reached or written.
    """
    dialect: Any = sqlite if store.is_sqlite else postgresql
    with store.writing() as connection:
        values = {"removed_at": at, "changed": store.count(connection, "items")}
        removing = dialect.insert(ITEMS).values(item_id=item_id, **values)
        removing = removing.on_conflict_do_update(
            index_elements=[ITEMS.c.item_id], set_=values, where=ITEMS.c.removed_at.is_(None)
        )
        return connection.execute(removing.returning(ITEMS.c.item_id)).first() is not None


def changed_items(store: Store, since: int) -> list[ItemFacts]:
    """The items that changed after the change of number `since`, in that order.

    Raises:
        StoreAway: The database cannot be reached.
    """
    columns = [ITEMS.c[name] for name in ItemFacts._fields]
    with store.reading() as connection:
        rows = connection.execute(sa.select(*columns).where(ITEMS.c.changed > since).order_by(ITEMS.c.changed))
        return [
            ItemFacts(
                row.item_id,
                row.language or "",
                row.category or "",
                read_tags(row.tags),
                row.published_at or 0,
                row.removed_at or 0,
                row.put_at or 0,
                row.changed,
            )
            for row in rows
        ]


def read_contents(store: Store, item_ids: Sequence[str]) -> list[ItemContent]:
    """What is stored of these items; one that is not is left out.

    Raises:
        StoreAway: The database cannot be reached.
    """
    columns = [ITEMS.c[name] for name in ItemContent._fields]
    found = []
    with store.reading() as connection:
        for start in range(0, len(item_ids), _CHUNK):
            chosen = ITEMS.c.item_id.in_(item_ids[start : start + _CHUNK])
            for row in connection.execute(sa.select(*columns).where(chosen)):
                texts = {name: getattr(row, name) or "" for name in _TEXTS}
                found.append(ItemContent(row.item_id, **texts, tags=read_tags(row.tags), image=row.image or b""))
    return found


def trending(
    store: Store, since: int, most: int, least_users: int = 1, positive_rating: float | None = None
) -> list[tuple[str, int]]:
    """The items that most users wanted since `since` (microseconds since 1970), with how many users that were.

    Args:
        positive_rating: Ratings below it are not wanted; None counts every rating.

    Raises:
        StoreAway: The database cannot be reached.
    """
    times = sa.func.count(sa.distinct(EVENTS.c.user_id))
    wanted: sa.ColumnElement[bool] = EVENTS.c.kind.in_(POSITIVE_KINDS)
    if positive_rating is not None:
        wanted &= (EVENTS.c.kind != "rating") | (EVENTS.c.value >= positive_rating)
    query = (
        sa.select(EVENTS.c.item_id, times)
        .where(EVENTS.c.at > since, wanted)
        .group_by(EVENTS.c.item_id)
        .having(times >= least_users)
        .order_by(times.desc(), EVENTS.c.item_id)
        .limit(most)
    )
    with store.reading() as connection:
        return [(item, int(number)) for item, number in connection.execute(query)]


def pages(store: Store, table: sa.Table, rows: int = 10_000) -> Iterator[list[dict[str, Any]]]:
    """A whole table, page by page, in the order of its key.

    Raises:
        StoreAway: The database cannot be reached.
    """
    (key,) = table.primary_key.columns
    last: Any = None
    while True:
        query = sa.select(table).order_by(key).limit(rows)
        with store.reading() as connection:
            page = connection.execute(query if last is None else query.where(key > last)).mappings().all()
        if not page:
            return
        last = page[-1][key.name]
        yield [dict(row) for row in page]


def read_tags(text: str | None) -> tuple[str, ...]:
    """Of the column `tags`."""
    return tuple(json.loads(text)) if text else ()
