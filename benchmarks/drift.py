"""Whether monitoring finds what has changed, and is quiet where nothing has: a newsroom's days, with planted shifts."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from benchmarks.drift_shifts import SHIFTS, Day
from pipelines.data.sources.newsroom.language import LANGUAGES, topics
from pipelines.data.sources.newsroom.readers import SEGMENTS
from pipelines.data.sources.newsroom.simulation import Slates, simulate
from pipelines.data.sources.newsroom.sizes import DAY, NewsroomSize
from pipelines.data.sources.newsroom.world import Newsroom
from serving.events import Store
from serving.events.items import put_items
from serving.events.tables import EVENTS, SLATES
from serving.monitoring import Fingerprint, observe
from serving.monitoring.features import Feature, Samples
from serving.monitoring.reference import reference_of
from serving.monitoring.samples import sample
from serving.monitoring.window import read_window

MICRO = 1_000_000
NEWSROOMS, WARM_UP, WEEK, WEEKS = 9, 10, 7, 4
QUIET = 200
# One day more, which is not looked at: nobody comes to a newsroom in its last hour.
SIZE = NewsroomSize(articles=3_400, users=4_000, days=WARM_UP + WEEK * WEEKS + 1, requests=82_000)
WIDTH = 32
LAG = 3_600.0


def run() -> int:
    began = time.monotonic()
    quiet: list[list[str]] = []
    caught: dict[str, list[tuple[bool, list[str]]]] = {name: [] for name in SHIFTS}
    users: list[int] = []
    for seed in range(NEWSROOMS):
        with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
            _one_newsroom(store, seed, quiet, caught, users)
    quiet = quiet[:QUIET]
    alarms = [found for found in quiet if found]
    print(
        f"{len(quiet)} quiet windows of a day, {np.median(users):,.0f} users each, {NEWSROOMS} newsrooms with a new "
        f"version every {WEEK} days: {len(alarms)} false alarms ({len(alarms) / len(quiet):.1%})"
    )
    for feature, count in Counter(each for found in alarms for each in found).most_common():
        print(f"    {feature}: {count}")
    print(f"{'planted':<34}{'must name':<20}{'found':>8}  also named")
    missed = 0
    for name, shift in SHIFTS.items():
        right = sum(found for found, _ in caught[name])
        others = Counter(each for _, named in caught[name] for each in named if each != shift.feature)
        told = ", ".join(f"{each} {count}" for each, count in others.most_common())
        print(f"{name:<34}{shift.feature:<20}{right:>4}/{len(caught[name])}  {told}")
        missed += right < len(caught[name])
    print(f"{time.monotonic() - began:.0f} s")
    return int(bool(missed) or len(alarms) > 0.05 * len(quiet) or len(quiet) < QUIET)


def _one_newsroom(
    store: Store,
    seed: int,
    quiet: list[list[str]],
    caught: dict[str, list[tuple[bool, list[str]]]],
    users: list[int],
) -> None:
    newsroom = Newsroom.generate(SIZE, seed=seed)
    put_items(store, _items(newsroom), None)
    embed = _Embed(newsroom, seed)
    rng = np.random.default_rng(seed)
    window = _Days(store, embed)
    fingerprint: Fingerprint | None = None
    for number, slates in enumerate(_days(newsroom)):
        start = (SIZE.start + number * DAY) * MICRO
        version = max(0, (number - WARM_UP) // WEEK) + 1
        day = _rows(newsroom, slates, number, version, rng)
        since = (number - WARM_UP) % WEEK
        planted = number >= WARM_UP and since == 1 and version == 1 + seed % WEEKS
        if planted:
            for name, shift in SHIFTS.items():
                _replace(store, start, shift.apply(day, np.random.default_rng([seed, 1])))
                asked = embed if shift.feature != "embedding" else _Embed(newsroom, seed + 1_000)
                found = window.observe(start, fingerprint, asked)
                caught[name].append((shift.feature in found, found))
        _replace(store, start, day)
        if number < WARM_UP:
            window.keep(start)
            continue
        if since == 0:
            fingerprint = window.trained(start, version)
        found = window.observe(start, fingerprint, embed)
        window.keep(start)
        if since:
            quiet.append(found)
            users.append(len(set(day.slate_user)))


class _Days:
    """Observes days, and keeps the features of the last week for a model that is trained on it."""

    def __init__(self, store: Store, embed: _Embed) -> None:
        self.store, self.embed = store, embed
        self.known: dict[str, int] = {}
        self.kept: list[tuple[dict[str, Feature], dict[str, Feature]]] = []

    def observe(self, start: int, fingerprint: Fingerprint | None, embed: _Embed) -> list[str]:
        seen = observe(self.store, start, start + DAY * MICRO, fingerprint=fingerprint, embed=embed, lag_seconds=LAG)
        return sorted({each.feature for each in seen.drifted})

    def keep(self, start: int) -> None:
        window = read_window(self.store, start, start + DAY * MICRO, lag_seconds=LAG)
        sampled = sample(self.store, window)
        user, item = window.user_ids, window.item_ids
        features = {}
        for name, feature in sampled.features().items():
            ids = item if name == "wanted_category" else user
            features[name] = feature._replace(drawn_with=self._places(ids[feature.drawn_with]))
        units = self._places(user[sampled.samples.user])
        vectors = {"embedding": Feature(self.embed(sampled.samples, 0), units)}
        self.kept = [*self.kept, (features, vectors)][-WEEK:]

    def _places(self, ids: np.ndarray) -> np.ndarray:
        """Who or what a value came with, by a number that is the same in every window."""
        return np.array([self.known.setdefault(each, len(self.known)) for each in ids], np.int64)

    def trained(self, until: int, version: int) -> Fingerprint:
        vectors = [each["embedding"] for _, each in self.kept]
        units = [each.drawn_with for each in vectors if each.drawn_with is not None]
        together = Feature(np.concatenate([each.values for each in vectors]), np.concatenate(units))
        of = {"source": "the training data", "until": until, "model": "feed", "version": version}
        return reference_of([features for features, _ in self.kept], {"embedding": together}, hours=24, **of)


class _Embed:
    """A model that says of a user the mean of what they have read."""

    def __init__(self, newsroom: Newsroom, seed: int) -> None:
        rng = np.random.default_rng(seed)
        articles = newsroom.articles
        of_subtopic = rng.normal(size=(len(topics().subtopics), WIDTH))
        of_language = rng.normal(size=(len(LANGUAGES), WIDTH))
        vectors = of_subtopic[articles.subtopic] + 0.5 * of_language[articles.language]
        vectors += 0.3 * rng.normal(size=vectors.shape)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self.place = {item: row for row, item in enumerate(articles.ids)}

    def __call__(self, samples: Samples, version: int) -> np.ndarray:
        rows = self.vectors[[self.place[item] for item in samples.item_id]]
        sums = np.diff(np.r_[np.zeros((1, WIDTH)), np.cumsum(rows, axis=0)][samples.offsets], axis=0)
        return sums / np.maximum(np.diff(samples.offsets), 1)[:, None]


def _days(newsroom: Newsroom) -> Iterator[list[Slates]]:
    days: list[list[Slates]] = [[] for _ in range(newsroom.size.days)]
    for hour in simulate(newsroom):
        days[int((hour.at[0] - newsroom.size.start) // DAY)].append(hour)
    return iter(days[:-1])


def _items(newsroom: Newsroom) -> list[dict[str, Any]]:
    articles, names = newsroom.articles, topics().names
    return [
        {
            "item_id": item,
            "language": LANGUAGES[articles.language[row]],
            "category": names[articles.topic[row]],
            "published_at": int(articles.published_at[row]) * MICRO,
        }
        for row, item in enumerate(articles.ids)
    ]


def _rows(newsroom: Newsroom, hours: list[Slates], number: int, version: int, rng: np.random.Generator) -> Day:
    articles, readers = newsroom.articles, newsroom.readers

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(hour, name) for hour in hours])

    item, at, user = joined("item"), joined("at"), joined("user")
    scores = newsroom.log_odds(user[:, None], item, at[:, None]) + rng.normal(0, 0.3, item.shape)
    return Day(
        start=(SIZE.start + number * DAY) * MICRO,
        number=number,
        version=version,
        slate_user=[str(each) for each in readers.ids[user]],
        at=(at * MICRO).astype(np.int64),
        language=[LANGUAGES[each] for each in readers.language[user]],
        device=[SEGMENTS[each] for each in readers.segment[user]],
        item=articles.ids[item],
        category=np.array(topics().names, object)[articles.topic[item]],
        item_language=np.array(LANGUAGES, object)[articles.language[item]],
        published_at=articles.published_at[item] * MICRO,
        score=scores,
        clicked=joined("clicked"),
        clicked_at=(joined("clicked_at") * MICRO).astype(np.int64),
        dwell=joined("dwell"),
        scroll=joined("scroll"),
    )


def _replace(store: Store, start: int, day: Day) -> None:
    """Put a day's rows in place of what the store has of it."""
    slates = [
        {
            "request_id": f"r{day.number}-{row}",
            "user_id": user,
            "at": int(day.at[row]),
            "placement": "home",
            "model": "feed",
            "version": day.version,
            "variant": "default",
            "fallback": None,
            "language": day.language[row],
            "device": day.device[row],
            "latency_ms": None,
            "items": orjson.dumps(
                [
                    [item, float(score), place, 1.0, ""]
                    for place, (item, score) in enumerate(zip(day.item[row], day.score[row], strict=True))
                ]
            ).decode(),
        }
        for row, user in enumerate(day.slate_user)
    ]
    empty = dict.fromkeys(EVENTS.columns.keys())
    events = [
        empty
        | {
            "event_id": f"e{day.number}-{row}-{place}",
            "user_id": day.slate_user[row],
            "item_id": day.item[row, place],
            "kind": "click",
            "at": int(day.clicked_at[row, place]),
            "request_id": f"r{day.number}-{row}",
            "position": int(place),
            "dwell_seconds": float(day.dwell[row, place]),
            "scroll_depth": float(day.scroll[row, place]),
            "device": day.device[row],
        }
        for row, place in zip(*np.nonzero(day.clicked), strict=True)
    ]
    with store.writing() as connection:
        for table in (SLATES, EVENTS):
            key = "request_id" if table is SLATES else "event_id"
            connection.execute(table.delete().where(table.c[key].like(f"{key[0]}{day.number}-%")))
        connection.execute(SLATES.insert(), slates)
        connection.execute(EVENTS.insert(), events)
