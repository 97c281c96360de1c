"""Items that the model's index does not have, or has an older form of: embedded by the model, kept here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from serving.events.items import ItemFacts

_HISTORY_SHARE = 4  # at most one in so many places goes to items that the user has read
_SECOND = 1_000_000


class LiveSet(NamedTuple):
    """F live items as arrays: `ids`, `category` (F,), `tags` (F, T), `vectors` (F, D), `published_seconds` (F,)."""

    ids: np.ndarray
    vectors: np.ndarray
    category: np.ndarray
    tags: np.ndarray
    published_seconds: np.ndarray

    def __bool__(self) -> bool:
        return len(self.ids) > 0

    def take(self, places: Sequence[int] | np.ndarray) -> Self:
        """Some of them."""
        return type(self)(*(each[places] for each in self))

    @staticmethod
    def batch(sets: Sequence[LiveSet | None]) -> dict[str, Any]:
        """The inputs of `recommend_live` for B requests, padded to the longest set."""
        some = next(each for each in sets if each)
        longest = max(len(each.ids) for each in sets if each)
        names = ("live_ids", "live_embeddings", "live_category", "live_tags", "live_published_seconds")
        inputs = {}
        widest = max(each.tags.shape[1] for each in sets if each)
        for name, example, field in zip(names, some, LiveSet._fields, strict=True):
            shape = (len(sets), longest, *((widest,) if field == "tags" else example.shape[1:]))
            column = np.full(shape, "", object) if example.dtype == object else np.zeros(shape, example.dtype)
            for row, each in enumerate(sets):
                if each:
                    values = getattr(each, field)
                    if field == "tags":
                        column[row, : len(values), : values.shape[1]] = values
                    else:
                        column[row, : len(values)] = values
            inputs[name] = column
        return inputs


class LiveItems:
    """The live items of one version of the model. For one event loop.

    Args:
        version: Of the model that made the vectors.
        most: Items kept; those published, or else put, longest ago go first.
    """

    def __init__(self, version: int, most: int) -> None:
        self.version = version
        self._most = most
        self._items: dict[str, tuple[ItemFacts, np.ndarray]] = {}
        self.state = 0  # moves on with each change; replicas that keep the same items have the same
        self._places: dict[str, int] = {}
        self._all: LiveSet | None = None

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def changed(self, item_id: str) -> int:
        """The number of the change of which the vector is; -1 where there is none."""
        return self._items[item_id][0].changed if item_id in self._items else -1

    def put(self, facts: ItemFacts, vector: np.ndarray) -> None:
        """Add an item, or replace its older form."""
        self.remove(facts.item_id)
        self._items[facts.item_id] = facts, vector
        self.state += facts.changed
        self._all = None
        while len(self._items) > self._most:
            self.remove(min(self._items, key=lambda each: self._items[each][0].since))

    def remove(self, item_id: str) -> None:
        if item_id in self._items:
            self.state -= self._items.pop(item_id)[0].changed
            self._all = None

    def all(self) -> LiveSet:
        """All of them."""
        if self._all is None:
            facts = [each for each, _ in self._items.values()]
            self._places = {each.item_id: place for place, each in enumerate(facts)}
            widest = max([1, *(len(each.tags) for each in facts)])
            tags = np.full((len(facts), widest), "", object)
            for row, each in enumerate(facts):
                tags[row, : len(each.tags)] = each.tags
            self._all = LiveSet(
                _objects([each.item_id for each in facts]),
                np.array([vector for _, vector in self._items.values()], np.float32).reshape(len(facts), -1),
                _objects([each.category for each in facts]),
                tags,
                np.array([each.published_at // _SECOND for each in facts], np.int64),
            )
        return self._all

    def chosen(self, most: int, user: np.ndarray | None, history: Sequence[str], hidden: Collection[str]) -> LiveSet:
        """At most `most` of them for a user: those read last, then those nearest to the user's vector (D,)."""
        everything = self.all()
        if len(everything.ids) <= most:
            return everything
        read = [self._places[each] for each in reversed(history) if each in self._places]
        read = list(dict.fromkeys(read))[: most // _HISTORY_SHARE]
        if user is None:
            order = np.argsort(-everything.published_seconds, kind="stable")
        else:
            order = np.argsort(-(everything.vectors @ user), kind="stable")
        taken = {*read, *(self._places[each] for each in hidden if each in self._places)}
        rest = [place for place in order.tolist() if place not in taken]
        return everything.take([*read, *rest][:most])


def _objects(values: Sequence[str]) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found
