"""Users: language, device, when they joined, how often they come, and what they like and how that changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.sources.newsroom.articles import ORGANISATION, PERSON, Articles
from pipelines.data.sources.newsroom.entities import Entities
from pipelines.data.sources.newsroom.language import LANGUAGE_SHARES, LANGUAGES, topics
from pipelines.data.sources.newsroom.sizes import DAY, END, NewsroomSize

SEGMENTS = ("mobile", "desktop", "tablet")  # a user's segment is the one device that they read on
_SEGMENT_SHARES = (0.6, 0.3, 0.1)

_BILINGUAL = 0.15
_FOREIGN = -6.0  # log-odds of an article in a language that the user does not read
_SECOND = -0.3  # in the user's second language
_NEW = 0.3  # share of users who join during the simulated days
_CONVERTS = 0.15  # share of users whose interests change abruptly
_CONCENTRATION = 0.12  # of the Dirichlet over topics: small is few topics per user
_TOPIC = 1.8
_SUBTOPIC = 0.5
_FAVOURITES = 2  # sub-topics that a user is attached to
_FAVOURITE = 1.6
_ATTACHMENTS = 6  # entities that a user follows
_ATTACHED = 1.2
_DRIFT = 0.4  # how far topics move from the first day to the last, 0 to 1


@dataclass(frozen=True)
class Readers:
    """U users."""

    ids: np.ndarray  # (U,) str, ascending
    language: np.ndarray  # (U,) place in LANGUAGES
    second_language: np.ndarray  # (U,) place in LANGUAGES, -1 for none
    segment: np.ndarray  # (U,) place in SEGMENTS
    created_at: np.ndarray  # (U,) seconds since 1970
    activity: np.ndarray  # (U,) visits per day, relative
    first_interest: np.ndarray  # (U, S) log-odds per sub-topic on the first day
    last_interest: np.ndarray  # (U, S) on the last day; between them interest moves in a straight line
    new_interest: np.ndarray  # (U, S) from `changed_at` on
    changed_at: np.ndarray  # (U,) seconds since 1970; END for most
    attachments: np.ndarray  # (U, A) entities that the user follows
    start: int

    def __len__(self) -> int:
        return len(self.ids)

    def interest(self, users: np.ndarray, subtopics: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Log-odds that a user's interests add to a sub-topic at a time."""
        passed = np.clip((at - self.start) / (END - self.start), 0, 1)
        drifting = (1 - passed) * self.first_interest[users, subtopics] + passed * self.last_interest[users, subtopics]
        return np.where(at >= self.changed_at[users], self.new_interest[users, subtopics], drifting)

    def affinity(self, users: np.ndarray, items: np.ndarray, articles: Articles, at: np.ndarray) -> np.ndarray:
        """Log-odds that are this user's own: interests, entities that they follow, and the languages they read."""
        followed = np.zeros(np.broadcast_shapes(users.shape, items.shape))
        for column in (PERSON, ORGANISATION):
            named = articles.entities[items, column]
            followed += (self.attachments[users] == named[..., None]).any(axis=-1)
        language = articles.language[items]
        reads = np.where(language == self.second_language[users], _SECOND, _FOREIGN)
        reads = np.where(language == self.language[users], 0.0, reads)
        return self.interest(users, articles.subtopic[items], at) + _ATTACHED * followed + reads


def register(size: NewsroomSize, names: Entities, rng: np.random.Generator) -> Readers:
    """Draw the users of a newsroom."""
    count = size.users
    language = rng.choice(len(LANGUAGES), count, p=LANGUAGE_SHARES)
    second = (language + rng.integers(1, len(LANGUAGES), count)) % len(LANGUAGES)
    joined_before = rng.integers(size.start - 365 * DAY, size.start, count)
    joined_during = rng.integers(size.start, END - DAY // 2, count)
    taste = rng.dirichlet(np.full(len(topics().names), _CONCENTRATION), count)
    later = (1 - _DRIFT) * taste + _DRIFT * rng.dirichlet(np.full(taste.shape[1], _CONCENTRATION), count)
    changed = rng.dirichlet(np.full(taste.shape[1], _CONCENTRATION), count)
    detail = _detail(count, rng)
    first = _interest(taste) + detail
    converts = rng.random(count) < _CONVERTS
    width = max(6, len(str(count)))
    return Readers(
        ids=np.array([f"u{number:0{width}d}" for number in range(1, count + 1)], dtype=object),
        language=language,
        second_language=np.where(rng.random(count) < _BILINGUAL, second, -1),
        segment=rng.choice(len(SEGMENTS), count, p=_SEGMENT_SHARES),
        created_at=np.where(rng.random(count) < _NEW, joined_during, joined_before),
        activity=rng.lognormal(0, 1.0, count),
        first_interest=first.astype(np.float32),
        last_interest=(_interest(later) + detail).astype(np.float32),
        new_interest=(_interest(changed) + _detail(count, rng)).astype(np.float32),
        changed_at=np.where(converts, rng.integers(size.start, END, count), END),
        attachments=_follow(first, names, rng),
        start=size.start,
    )


def _interest(taste: np.ndarray) -> np.ndarray:
    """(U, topics) shares of attention to (U, S) log-odds, with mean zero over the topics of a user."""
    # The root keeps a user with one topic from being all or nothing.
    strength = np.sqrt(taste * taste.shape[1])
    strength = (strength - strength.mean(axis=1, keepdims=True)) * _TOPIC
    return strength[:, np.array(topics().topic_of)]


def _detail(count: int, rng: np.random.Generator) -> np.ndarray:
    """(U, S): likes and dislikes within topics, and a few favourite sub-topics."""
    subtopics = len(topics().subtopics)
    detail = rng.normal(0, _SUBTOPIC, (count, subtopics))
    favourites = rng.integers(subtopics, size=(count, _FAVOURITES))
    np.add.at(detail, (np.arange(count)[:, None], favourites), _FAVOURITE)
    return detail


def _follow(interest: np.ndarray, names: Entities, rng: np.random.Generator) -> np.ndarray:
    """(U, A): people and organisations in turn, of sub-topics that the user likes, the famous ones more often."""
    chosen = []
    for number in range(_ATTACHMENTS):
        subtopic = np.argmax(2 * interest + rng.gumbel(size=interest.shape), axis=1)
        bounds = names.people if number % 2 == 0 else names.organisations
        pool = bounds[subtopic + 1] - bounds[subtopic]
        chosen.append(bounds[subtopic] + (pool * rng.random(len(subtopic)) ** 2).astype(np.int64))
    return np.stack(chosen, axis=1).astype(np.int32)
