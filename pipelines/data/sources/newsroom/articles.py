"""Articles: what each is about, when it is published, and how attractive it is to anybody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.sources.newsroom.entities import Entities, invent
from pipelines.data.sources.newsroom.language import LANGUAGE_SHARES, LANGUAGES, topics
from pipelines.data.sources.newsroom.sizes import DAY, END, FRONT_PAGE, HOUR, WARM_UP, NewsroomSize

NEVER = np.iinfo(np.int64).max
# The columns of Articles.entities.
PERSON, OTHER_PERSON, ORGANISATION, RIVAL, TOWN, OTHER_TOWN = range(6)

_STANDALONE = 0.3  # share of articles that belong to no running story
_PER_STORY = 8  # articles of a running story, on average
_APPEAL = 0.3
_FRESHNESS = 0.8
_FRESHNESS_HALF_LIFE = DAY
_WITHDRAWN = 0.004
_ON_THE_SITE = 2 * DAY
_KEPT_AT_LEAST = 40  # articles of a language, however old
# Articles published per hour of the day (UTC), relative.
_DESK = np.array([1, 1, 1, 1, 2, 5, 9, 10, 9, 8, 8, 8, 7, 7, 7, 8, 8, 8, 7, 6, 5, 4, 3, 2], dtype=float)


@dataclass(frozen=True)
class Articles:
    """N articles in the order of publication."""

    ids: np.ndarray  # (N,) str, ascending
    language: np.ndarray  # (N,) place in LANGUAGES
    topic: np.ndarray  # (N,) place in Topics.names
    subtopic: np.ndarray  # (N,) place in Topics.subtopics
    story: np.ndarray  # (N,)
    entities: np.ndarray  # (N, 6) places in `names.names`, the columns above
    thing: np.ndarray  # (N,) what the story turns on, a number that every language maps to its own word
    sentences: np.ndarray  # (N,) length of the body
    published_at: np.ndarray  # (N,) seconds since 1970
    removed_at: np.ndarray  # (N,) seconds since 1970, or NEVER: withdrawn, or moved to the archive
    appeal: np.ndarray  # (N,) log-odds that the article itself adds, for everybody
    story_start: np.ndarray  # (N,) when the story broke, seconds since 1970
    story_pace: np.ndarray  # (N,) seconds from breaking to the peak
    story_heat: np.ndarray  # (N,) log-odds at the peak
    names: Entities

    def __len__(self) -> int:
        return len(self.ids)

    def attractiveness(self, items: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Log-odds that an article adds for everybody at a time: appeal, freshness, and the heat of its story."""
        age = np.maximum(at - self.published_at[items], 0)
        freshness = _FRESHNESS * np.exp2(-age / _FRESHNESS_HALF_LIFE)
        grown = np.maximum(at - self.story_start[items], 0) / self.story_pace[items]
        heat = self.story_heat[items] * grown * np.exp(1 - grown)
        return self.appeal[items] + freshness + heat


def write_schedule(size: NewsroomSize, rng: np.random.Generator) -> Articles:
    """Draw the articles of a newsroom, without their texts."""
    known = topics()
    count = size.articles
    running = max(1, round(count * (1 - _STANDALONE) / _PER_STORY))
    standalone = round(count * _STANDALONE)
    stories = running + standalone
    names = invent(known, rng, per_subtopic=max(4, stories // 150), towns=max(24, stories // 40))

    # Every standalone article is a story of one; the others share the running stories, large ones and small ones.
    weights = rng.gamma(1.5, size=running)
    story = np.r_[running + np.arange(standalone), rng.choice(running, count - standalone, p=weights / weights.sum())]
    subtopic = rng.integers(len(known.subtopics), size=stories)
    first = size.start - WARM_UP
    start = rng.uniform(first - DAY, END - 6 * HOUR, stories)
    pace = rng.lognormal(np.log(14 * HOUR), 0.5, stories)
    heat = np.where(np.arange(stories) < running, rng.exponential(0.35, stories), 0.0)
    entities = _cast(names, subtopic, rng)

    language = rng.permutation(np.searchsorted(np.cumsum(LANGUAGE_SHARES), (np.arange(count) + 0.5) / count))
    published = _on_the_desk(start[story] + rng.gamma(2.0, size=count) * pace[story], first, rng)
    published = _fill_front_page(published, language, size.start, rng)
    order = np.argsort(published, kind="stable")
    story, language, published = story[order], language[order], published[order]
    withdrawn = (rng.random(count) < _WITHDRAWN) & (published >= size.start)
    withdrawn_at = np.where(withdrawn, published + rng.integers(HOUR, 2 * DAY, count), NEVER)
    width = max(6, len(str(count)))
    return Articles(
        ids=np.array([f"a{number:0{width}d}" for number in range(1, count + 1)], dtype=object),
        language=language,
        topic=np.array(known.topic_of)[subtopic[story]],
        subtopic=subtopic[story],
        story=story,
        entities=entities[story],
        thing=rng.integers(1 << 16, size=stories)[story],
        sentences=rng.integers(2, 9, count),
        published_at=published,
        removed_at=np.minimum(withdrawn_at, _archived_at(published, language)),
        appeal=rng.normal(0, _APPEAL, count),
        story_start=start[story],
        story_pace=pace[story],
        story_heat=heat[story],
        names=names,
    )


def _archived_at(published: np.ndarray, language: np.ndarray) -> np.ndarray:
    """(N,) when each article leaves the site for the archive: old, and not among the last of its language."""
    archived = np.full(len(published), NEVER)
    for place in range(len(LANGUAGES)):
        own = np.flatnonzero(language == place)
        followed = own[: max(0, len(own) - _KEPT_AT_LEAST)]
        archived[followed] = np.maximum(published[followed] + _ON_THE_SITE, published[own[_KEPT_AT_LEAST:]])
    return np.where(archived > END, NEVER, archived)


def _cast(names: Entities, subtopic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(stories, 6): who and what each story is about. A few entities of a sub-topic are in the news most."""

    def pair(begin: np.ndarray, end: np.ndarray) -> list[np.ndarray]:
        pool = end - begin
        one = (pool * rng.random(len(subtopic)) ** 2).astype(np.int64)
        other = (one + 1 + (rng.random(len(subtopic)) * (pool - 1)).astype(np.int64)) % pool
        return [begin + one, begin + other]

    people = pair(names.people[subtopic], names.people[subtopic + 1])
    organisations = pair(names.organisations[subtopic], names.organisations[subtopic + 1])
    towns = pair(*(np.full(len(subtopic), bound) for bound in names.towns))
    return np.stack([*people, *organisations, *towns], axis=1).astype(np.int32)


def _fill_front_page(published: np.ndarray, language: np.ndarray, start: int, rng: np.random.Generator) -> np.ndarray:
    """Move the earliest articles of each language before the first visit, where they are not."""
    published = published.copy()
    for place in range(len(LANGUAGES)):
        own = np.flatnonzero(language == place)
        earliest = own[np.argsort(published[own], kind="stable")[:FRONT_PAGE]]
        late = earliest[published[earliest] >= start]
        published[late] = start - rng.integers(1, WARM_UP, len(late))
    return published


def _on_the_desk(wanted: np.ndarray, first: int, rng: np.random.Generator) -> np.ndarray:
    """Move each time to an hour at which the desk works, on its own day, and into the newsroom's days."""
    day = np.floor(wanted / DAY).astype(np.int64)
    outside = (day < first // DAY) | (day >= END // DAY)
    day = np.where(outside, rng.integers(first // DAY, END // DAY, len(day)), day)
    hour = rng.choice(24, len(day), p=_DESK / _DESK.sum())
    # A story's own hour stands where the desk is awake; otherwise the desk chooses.
    own = (wanted % DAY // HOUR).astype(np.int64)
    hour = np.where(~outside & (own >= 5) & (own < 22), own, hour)
    return day * DAY + hour * HOUR + rng.integers(HOUR, size=len(day))
