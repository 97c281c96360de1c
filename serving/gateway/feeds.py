"""What is asked of the recommender and what it gives."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from serving.events.users import NOBODY, UserState
from serving.gateway.catalogue import Catalogue, Wanted


class Ask(NamedTuple):
    """A request, checked."""

    user_id: str
    k: int
    placement: str
    wanted: Wanted
    exclude: tuple[str, ...]
    language: str
    device: str
    time_seconds: int

    def key(self, *source: str | int) -> str:
        """What must be the same for an answer to be the same, but for the user and the time; hashed, as it may be long.

        Args:
            source: What answers: the model, its version, the variant, the state of the catalogue.
        """
        wanted = [sorted(each) for each in self.wanted]
        rest = [self.placement, self.k, wanted, sorted(self.exclude), self.language, self.device]
        return "answer:" + hashlib.blake2b(orjson.dumps([source, *rest]), digest_size=16).hexdigest()


class Shown(NamedTuple):
    """An item of an answer; its place is its position.

    Args:
        propensity: With which it is shown there, over all that is left to chance.
        team: In interleaved answers, whose it is; see `serving.experiments.interleaving`.
    """

    item_id: str
    score: float
    reason: str
    propensity: float = 1.0
    team: int | None = None


class Feed(NamedTuple):
    """An answer."""

    items: list[Shown]
    version: int | None
    fallback: str | None = None

    def dump(self) -> bytes:
        return orjson.dumps([self.version, self.fallback, [tuple(each) for each in self.items]])

    @classmethod
    def load(cls, content: bytes) -> Feed:
        version, fallback, items = orjson.loads(content)
        return cls([Shown(*each) for each in items], version, fallback)


@dataclass
class Known:
    """What has been found out of a user by the time that a fallback may have to answer."""

    state: UserState = NOBODY
    language: str = ""
    hidden: set[str] = field(default_factory=set)
    read: frozenset[str] = frozenset()  # categories of the history

    def learn(self, ask: Ask, state: UserState, catalogue: Catalogue) -> None:
        items = [item for each in state.item_ids if (item := catalogue.items.get(each)) is not None]
        self.state = state
        self.hidden.update(state.seen, state.item_ids)
        self.read = frozenset(item.category for item in items if item.category)
        languages = Counter(item.language for item in items if item.language)
        self.language = ask.language or (languages.most_common(1)[0][0] if languages else "")


class StaleFeeds:
    """The last answer of each user, placement, filter and language, for when the model is away. In memory alone.

    Args:
        most: Answers kept.
        seconds: How old one may be.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds = most, seconds
        self._clock = clock
        self._feeds: OrderedDict[str, dict[tuple[str, Wanted, str], tuple[float, Feed]]] = OrderedDict()
        self.epoch = 0  # moves on with each erasure

    def __len__(self) -> int:
        return len(self._feeds)

    def keep(self, ask: Ask, feed: Feed, epoch: int) -> None:
        """Keep an answer, unless somebody was erased since it was begun, at `epoch`: it may have been this user."""
        if not self._most or not self._seconds or epoch != self.epoch:
            return
        kept = self._feeds.setdefault(ask.user_id, {})
        self._feeds.move_to_end(ask.user_id)
        key = (ask.placement, ask.wanted, ask.language)
        kept.pop(key, None)
        kept[key] = self._clock() + self._seconds, feed
        if len(kept) > 4:
            del kept[next(iter(kept))]
        if len(self._feeds) > self._most:
            self._feeds.popitem(last=False)

    def find(self, ask: Ask) -> Feed | None:
        key = (ask.placement, ask.wanted, ask.language)
        until, feed = self._feeds.get(ask.user_id, {}).get(key, (0.0, None))
        return feed if self._clock() < until else None

    def saw(self, user_id: str, item_ids: Collection[str]) -> None:
        """Show these no more."""
        for key, (until, feed) in self._feeds.get(user_id, {}).items():
            items = [each for each in feed.items if each.item_id not in item_ids]
            self._feeds[user_id][key] = until, feed._replace(items=items)

    def forget(self, user_id: str) -> None:
        self.epoch += 1
        self._feeds.pop(user_id, None)

    def clear(self) -> None:
        self.epoch += 1
        self._feeds.clear()
