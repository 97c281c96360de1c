"""The tables of a dataset folder. Every column is named and typed here, and only here.

Padding and absence: an id is never null; any other column may be null, which means "not known".
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TIMESTAMP = pa.timestamp("us", tz="UTC")
_MICROSECONDS = 1_000_000

# What a user can do to an item. `impression` is being shown it.
Kind = Literal["impression", "click", "read", "like", "share", "save", "dislike", "rating"]
KINDS: tuple[str, ...] = ("impression", "click", "read", "like", "share", "save", "dislike", "rating")
# Kinds that say "this user wanted this item". A rating counts from the recipe's threshold on.
POSITIVE_KINDS: tuple[str, ...] = ("click", "read", "like", "share", "save", "rating")
# Of these, the ones that say "and this user would have others see it, or come back to it".
LIKING_KINDS: tuple[str, ...] = ("like", "share", "save")

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("body", pa.string()),  # abstract, plot or text
        pa.field("language", pa.string()),  # BCP 47, such as "en"
        pa.field("category", pa.string()),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("image", pa.binary()),  # encoded JPEG or PNG
        pa.field("published_at", TIMESTAMP),
        pa.field("removed_at", TIMESTAMP),
    ]
)

EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # one of KINDS
        pa.field("at", TIMESTAMP, nullable=False),
        pa.field("request_id", pa.string()),  # the slate in which the item was shown
        pa.field("position", pa.int32()),  # in that slate, from 0
        pa.field("dwell_seconds", pa.float32()),
        pa.field("scroll_depth", pa.float32()),  # 0 to 1
        pa.field("value", pa.float32()),  # the rating, where kind is rating
        pa.field("propensity", pa.float32()),  # probability with which the item was shown there
        pa.field("variant", pa.string()),  # of the model or experiment that showed it
        pa.field("device", pa.string()),  # on which it happened, such as "mobile"
    ]
)
# Columns that a folder may lack because it is older than they are; they are read as null.
ADDED_LATER = frozenset({"device"})

# What answered a request, where a gateway did: the events with its request_id are impressions of it and what followed.
SLATES = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("at", TIMESTAMP, nullable=False),
        pa.field("placement", pa.string(), nullable=False),
        pa.field("model", pa.string()),
        pa.field("version", pa.int64()),
        pa.field("variant", pa.string()),
        pa.field("fallback", pa.string()),  # what stood in for the model; null where the model answered
    ]
)

USERS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("language", pa.string()),
        pa.field("segment", pa.string()),
        pa.field("created_at", TIMESTAMP),
    ]  # free columns may follow
)


def whole_seconds(column: pa.ChunkedArray, *, unknown: int = 0) -> np.ndarray:
    """A TIMESTAMP column as whole seconds since 1970, rounded down (Arrow divides towards zero, engines differ)."""
    return np.where(
        pc.is_null(column).to_numpy(), unknown, pc.fill_null(column.cast(pa.int64()), 0).to_numpy() // _MICROSECONDS
    )
