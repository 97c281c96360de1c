"""A newsroom in which what readers want moves, day by day: articles appear and go, readers come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from pipelines.data.sources.newsroom.articles import NEVER
from pipelines.data.sources.newsroom.language import LANGUAGES, topics
from pipelines.data.sources.newsroom.readers import SEGMENTS
from pipelines.data.sources.newsroom.simulation import Slates, behave, simulate
from pipelines.data.sources.newsroom.sizes import DAY, END, HOUR, SLATE, NewsroomSize, stream
from pipelines.data.sources.newsroom.texts import Desk
from pipelines.data.sources.newsroom.visits import draw_visits
from pipelines.data.sources.newsroom.world import Newsroom
from pipelines.errors import BadInput

_MOVED_BY = 0.5  # share of the live days after which the taste has moved


@dataclass(frozen=True)
class DriftingNewsroom(Newsroom):
    """Readers whose taste moves: what every sub-topic is worth to everybody goes from one value to its opposite.

    That is a season's change: a model that has learned the season before is wrong, and its readers' own histories do
    not tell it so. Everything else is as in `Newsroom`.

    Args:
        worth: (S,) log-odds that a sub-topic gains once the taste has moved, and loses before.
        live_from: When it begins to move, seconds since 1970.
    """

    worth: np.ndarray | None = None
    live_from: int = END

    def log_odds(self, users: np.ndarray, items: np.ndarray, at: np.ndarray) -> np.ndarray:
        """See `Newsroom.log_odds`."""
        found = super().log_odds(users, items, at)
        if self.worth is None:
            return found
        moved = np.clip((at - self.live_from) / (_MOVED_BY * (END - self.live_from)), 0, 1)
        return found + self.worth[self.articles.subtopic[items]] * (2 * moved - 1)


@dataclass(frozen=True)
class Hour:
    """An hour's visits, by time: readers (R,) as places in `Readers`, and times (R,) in seconds since 1970."""

    begin: int
    user: np.ndarray
    at: np.ndarray


class World:
    """The simulated days: some in which a publisher's own policy fills the log, then live ones.

    The same arguments make the same world; what readers do with a slate depends on the slate and on `seed` alone.

    Args:
        days: Live ones.
        warm_up: Days before.
        users: Readers.
        visits: A day.
        articles: Published a day.
        drift: Log-odds, the standard deviation of what a sub-topic's worth moves to; 0 for a taste that stays.
        seed: From 0.

    Raises:
        BadInput: There are too few articles.
    """

    def __init__(
        self, *, days: int, warm_up: int, users: int, visits: int, articles: int, drift: float, seed: int
    ) -> None:
        both = days + warm_up
        size = NewsroomSize(articles=articles * both, users=users, days=both, requests=visits * both)
        plain = Newsroom.generate(size, seed)
        rng = stream(seed, 20)
        worth = drift * rng.standard_normal(len(topics().subtopics))
        self.live_from = END - days * DAY
        self.newsroom = DriftingNewsroom(
            size, seed, plain.articles, plain.readers, worth=worth, live_from=self.live_from
        )
        self.days, self.seed = days, seed
        self._texts = list(Desk(plain.articles, seed).write())
        # The same readers come whatever serves them.
        self._user, self._at = draw_visits(size, plain.readers, stream(seed, 2))

    def before(self) -> Iterator[Slates]:
        """What the publisher's own policy showed before the gateway ran, and what readers did."""
        for slates in simulate(self.newsroom):
            if int(slates.at[0]) >= self.live_from:
                return
            yield slates

    def hours(self, day: int) -> Iterator[Hour]:
        """The visits of a live day, from 0."""
        for begin in range(self.live_from + day * DAY, self.live_from + (day + 1) * DAY, HOUR):
            first, last = np.searchsorted(self._at, [begin, begin + HOUR])
            yield Hour(begin, self._user[first:last], self._at[first:last])

    def published(self, begin: int, end: int) -> list[dict[str, Any]]:
        """Articles that appear in a time, as the gateway's API takes them, with their `item_id`."""
        at = self.newsroom.articles.published_at
        return [self.article(int(row)) for row in np.flatnonzero((at >= begin) & (at < end))]

    def removed(self, begin: int, end: int) -> list[str]:
        """Articles that go in a time."""
        at = self.newsroom.articles.removed_at
        return self.newsroom.articles.ids[(at != NEVER) & (at >= begin) & (at < end)].tolist()

    def article(self, row: int) -> dict[str, Any]:
        articles, known = self.newsroom.articles, topics()
        title, body = self._texts[row]
        person, _, organisation = articles.entities[row][:3]
        names = articles.names.names
        subtopic = articles.subtopic[row]
        return {
            "item_id": str(articles.ids[row]),
            "title": title,
            "body": body,
            "language": LANGUAGES[articles.language[row]],
            "category": known.names[articles.topic[row]],
            "tags": [known.subtopics[subtopic], str(names[person]), str(names[organisation])],
            "published_at": int(articles.published_at[row]),
        }

    def reader(self, user: int) -> tuple[str, str, str]:
        """A reader's id, language and device."""
        readers = self.newsroom.readers
        return str(readers.ids[user]), LANGUAGES[readers.language[user]], SEGMENTS[readers.segment[user]]

    def behave(self, hour: Hour, shown: list[list[str]]) -> Slates:
        """What an hour's readers do with what each is shown, which are ids from the top; places left empty get nothing.

        Raises:
            BadInput: An item is none of this world's.
        """
        ids = self.newsroom.articles.ids
        item = np.zeros((len(shown), SLATE), np.int64)
        there = np.zeros(item.shape, bool)
        for row, each in enumerate(shown):
            places = np.searchsorted(ids, np.array(each[:SLATE], dtype=object))
            if len(each) and (places.max() >= len(ids) or any(ids[places] != each[:SLATE])):
                raise BadInput("the gateway recommends an item that is not of this simulation.")
            item[row, : len(places)] = places
            there[row, : len(places)] = True
        rng = stream(self.seed, 21, hour.begin)
        done = behave(self.newsroom, hour.user, hour.at, item, np.ones(item.shape), rng)
        masked = {name: getattr(done, name) & there for name in ("clicked", "read", "liked", "shared")}
        return replace(done, probability=np.where(there, done.probability, 0.0), **masked)

    @classmethod
    def of(cls, days: int, warm_up: int, size: str, drift: float, seed: int) -> Self:
        """A world of a named size.

        Raises:
            BadInput: There is no size of that name, or a number is out of range.
        """
        if size not in WORLDS:
            raise BadInput(f"{size!r} is not a size of the simulation: choose {', '.join(WORLDS)}.")
        if days < 1 or warm_up < 2 or seed < 0:
            raise BadInput("a simulation has one live day or more, two days before or more, and a seed from 0.")
        return cls(days=days, warm_up=warm_up, drift=drift, seed=seed, **WORLDS[size])


# A day's readers and articles.
WORLDS: dict[str, dict[str, int]] = {
    "tiny": {"users": 150, "visits": 150, "articles": 40},
    "small": {"users": 1_500, "visits": 1_000, "articles": 60},
    "medium": {"users": 8_000, "visits": 6_000, "articles": 120},
}
