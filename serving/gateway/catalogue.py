"""The facts of every item, in memory: what is on offer, what is newest, what trends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from sortedcontainers import SortedList

from serving.events.items import ItemFacts

_LISTS_KEPT = 512
_SCANNED = 20_000  # newest items looked at for a filter
_TRENDING_SHOWN = 20  # places of a language's list that count as trending


class Wanted(NamedTuple):
    """What a request's filters let through; empty for no filter."""

    languages: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()

    def admits(self, item: ItemFacts | None) -> bool:
        """An item of which nothing is known passes no filter."""
        if item is None:
            return not (self.languages or self.categories)
        return (not self.languages or item.language in self.languages) and (
            not self.categories or item.category in self.categories
        )


class Catalogue:
    """For one event loop. `apply` and `set_trending` are how it changes."""

    def __init__(self) -> None:
        self.changed = 0  # the number of the last change that it knows
        self.items: dict[str, ItemFacts] = {}
        self._removed: dict[str, None] = {}  # the latest last
        self._by_age: SortedList = SortedList()  # (-published_at, id) of what is not removed
        self._lists: dict[tuple[Wanted, int], list[str]] = {}
        self._trending: list[str] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.items)

    def apply(self, changes: Iterable[ItemFacts]) -> None:
        """Take over changes, in their order. A thousand take some 10 ms, in which the loop answers nobody."""
        for item in changes:
            before = self.items.get(item.item_id)
            self.items[item.item_id] = item
            self.changed = max(self.changed, item.changed)
            if before is not None and not before.removed_at:
                self._by_age.remove((-before.published_at, before.item_id))
            if not item.removed_at:
                self._by_age.add((-item.published_at, item.item_id))
                self._removed.pop(item.item_id, None)
            elif before is None or not before.removed_at:
                self._removed[item.item_id] = None
        self._lists.clear()

    def removed(self, most: int) -> list[str]:
        """The items that were removed last."""
        return list(islice(reversed(self._removed), most))

    def on_offer(self, item_id: str, now: int) -> bool:
        """Whether an item may be shown at `now` (microseconds); one that is not stored is the model's to offer."""
        item = self.items.get(item_id)
        return item is None or (not 0 < item.removed_at <= now and item.published_at <= now)

    def newest(self, wanted: Wanted, most: int, now: int) -> list[str]:
        """The newest items that a filter lets through, newest first."""
        # Callers ask for as many as their user has seen, and some: one list is for all of about that number.
        size = 1 << max(0, most - 1).bit_length()
        found = self._lists.get((wanted, size))
        if found is None:
            found, ready = [], 0
            for _, item_id in islice(self._by_age, _SCANNED):
                if wanted.admits(self.items[item_id]):
                    found.append(item_id)
                    # What is published later stays in the list until then.
                    ready += self.on_offer(item_id, now)
                    if ready >= size:
                        break
            if len(self._lists) >= _LISTS_KEPT:
                self._lists.clear()
            self._lists[wanted, size] = found
        return [item_id for item_id in found if self.on_offer(item_id, now)][:most]

    def set_trending(self, item_ids: Sequence[str]) -> None:
        """The items of the trend, the most wanted first."""
        self._trending = list(item_ids)
        self._places = {}
        counts: dict[str, int] = {}
        for item_id in self._trending:
            item = self.items.get(item_id)
            if item is not None:
                self._places[item_id] = counts.get(item.language, 0)
                counts[item.language] = self._places[item_id] + 1

    def trending(self, wanted: Wanted, most: int, now: int) -> list[str]:
        """What trends among what a filter lets through, the most wanted first."""
        found = []
        for item_id in self._trending:
            if wanted.admits(self.items.get(item_id)) and self.on_offer(item_id, now):
                found.append(item_id)
                if len(found) >= most:
                    break
        return found

    def trends(self, item_id: str) -> bool:
        """Whether an item is among the first of its language's trend."""
        return self._places.get(item_id, _TRENDING_SHOWN) < _TRENDING_SHOWN
