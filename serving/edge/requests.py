"""What is asked, checked: histories, contexts and articles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from serving.edge.errors import BadRequest
from serving.edge.journal import Article

MAX_EVENTS = 10_000
MAX_EXCLUDED = 100_000
MAX_K = 1_000
MAX_ID_LETTERS = 1_000
_INT64 = 2**63


class Event(NamedTuple):
    """One event of a history.

    Args:
        age_seconds: How long ago.
        scroll_depth: From 0 to 1.
    """

    item: str
    age_seconds: float = 0.0
    dwell_seconds: float = 0.0
    scroll_depth: float = 0.0


@dataclass(frozen=True)
class Query:
    """A user at a moment: history, oldest event first, and context. What is not known is empty or 0."""

    history: tuple[Event, ...] = ()
    language: str = ""
    device: str = ""
    time_seconds: int = 0

    @classmethod
    def of(cls, history: Iterable[Sequence[Any]], language: str = "", device: str = "", time_seconds: int = 0) -> Query:
        """Check and convert.

        Raises:
            BadRequest: A value is of the wrong type, no finite number, or there are too many events.
        """
        events = tuple(map(_event, history))
        if len(events) > MAX_EVENTS:
            raise BadRequest(f"The history has {len(events)} events; send the last {MAX_EVENTS}.")
        return cls(events, text("language", language), text("device", device), whole("time_seconds", time_seconds))


def ids(name: str, values: Iterable[Any]) -> tuple[str, ...]:
    """A list of ids.

    Raises:
        BadRequest: There are too many, or one is no string.
    """
    if isinstance(values, str):
        raise BadRequest(f"`{name}` must be a list of ids.")
    found = tuple(text(name, value) for value in values)
    if len(found) > MAX_EXCLUDED:
        raise BadRequest(f"`{name}` has {len(found)} ids; at most {MAX_EXCLUDED} can be asked about.")
    return found


def count(k: Any) -> int:
    """How many items are wanted.

    Raises:
        BadRequest: Not from 1 to 1,000.
    """
    if type(k) is not int or not 1 <= k <= MAX_K:
        raise BadRequest(f"`k` must be a whole number from 1 to {MAX_K}.")
    return k


def article(
    item: Any,
    title: Any = "",
    body: Any = "",
    language: Any = "",
    category: Any = "",
    tags: Any = (),
    published_at: Any = 0,
) -> tuple[str, Article]:
    """An item and what is known of it.

    Raises:
        BadRequest: A value is of the wrong type, or the id is empty or too long.
    """
    if isinstance(tags, str):
        raise BadRequest("`tags` must be a list of strings.")
    return item_id(item), Article(
        text("title", title),
        text("body", body),
        text("language", language),
        text("category", category),
        tuple(text("tags", tag) for tag in tags),
        whole("published_at", published_at),
    )


def item_id(value: Any) -> str:
    """The id of an item to add or remove.

    Raises:
        BadRequest: It is empty, too long, or no string.
    """
    found = text("item_id", value)
    if not found or len(found) > MAX_ID_LETTERS:
        raise BadRequest(f"An item's id must have from 1 to {MAX_ID_LETTERS} characters.")
    return found


def text(name: str, value: Any) -> str:
    """A string that can be written as UTF-8.

    Raises:
        BadRequest: It is not.
    """
    if not isinstance(value, str):
        raise BadRequest(f"`{name}` must be a string.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"`{name}` holds half of a surrogate pair.") from None
    return value


def whole(name: str, value: Any) -> int:
    """An integer of 64 bits.

    Raises:
        BadRequest: It is not.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or not -_INT64 <= int(value) < _INT64:
        raise BadRequest(f"`{name}` must be whole seconds.")
    return int(value)


def _event(values: Sequence[Any]) -> Event:
    if isinstance(values, str) or not 1 <= len(values) <= 4:
        raise BadRequest("An event of the history is an id, then its age, dwell time and scroll depth.")
    item, *signals = values
    return Event(text("history", item), *map(_number, signals))


def _number(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    # What float32, which the model has, cannot hold is no signal either.
    if not abs(number) < 3e38:
        raise BadRequest("The signals of the history must be finite numbers.")
    return number
