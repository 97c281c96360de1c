"""Why an item is shown, in words that are true of it."""

from __future__ import annotations

from collections.abc import Collection

from serving.gateway.catalogue import Catalogue

_HOUR = 3_600_000_000

RECOMMENDED = "Recommended for you"
TRENDING = "Trending"
NEWEST = "Among the newest"
NEW = "New"


def reason(
    catalogue: Catalogue, item_id: str, read: Collection[str], *, now: int, new_hours: float, otherwise: str
) -> str:
    """The first of these that holds: its category was read, it is new, it trends; else `otherwise`.

    Args:
        read: Categories of the user's history.
        now: Microseconds since 1970.
    """
    item = catalogue.items.get(item_id)
    if item is None:
        return otherwise
    if item.category and item.category in read:
        return f"You read about {item.category}"
    if item.published_at and now - item.published_at <= new_hours * _HOUR:
        return NEW
    if catalogue.trends(item_id):
        return f"Trending in {item.language}" if item.language else TRENDING
    return otherwise
