"""The newsroom's days, hour by hour: visits, slates, clicks, and what happens after a click."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.data.sources.newsroom.publisher import Publisher
from pipelines.data.sources.newsroom.sizes import END, HOUR, SLATE, stream
from pipelines.data.sources.newsroom.visits import draw_visits
from pipelines.data.sources.newsroom.world import Newsroom, examination

READ_SECONDS = 30.0  # a click that lasts this long is a read
_LOOK_SECONDS = 2.0  # per position, before a click
_LONGEST = 900.0
_LIKE, _SHARE = 0.06, 0.03  # of reads, at even interest


@dataclass(frozen=True)
class Slates:
    """R visits of one hour, by time; all arrays but the first two are (R, SLATE), a column per position."""

    user: np.ndarray  # (R,) place in Readers
    at: np.ndarray  # (R,) seconds since 1970
    item: np.ndarray  # place in Articles
    propensity: np.ndarray
    probability: np.ndarray  # true, of a click
    clicked: np.ndarray  # bool
    clicked_at: np.ndarray  # seconds since 1970, where clicked
    dwell: np.ndarray  # seconds, where clicked
    scroll: np.ndarray  # 0 to 1, where clicked
    read: np.ndarray  # bool
    liked: np.ndarray  # bool
    shared: np.ndarray  # bool


def simulate(newsroom: Newsroom) -> Iterator[Slates]:
    """Play the newsroom's days; an hour without visits yields nothing."""
    users, times = draw_visits(newsroom.size, newsroom.readers, stream(newsroom.seed, 2))
    publisher = Publisher(newsroom.articles, newsroom.readers, stream(newsroom.seed, 3))
    rng = stream(newsroom.seed, 4)
    hours = np.arange(newsroom.size.start, END + 1, HOUR)
    bounds = np.searchsorted(times, hours)
    for now, begin, end in zip(hours, bounds, bounds[1:], strict=False):
        user, at = users[begin:end], times[begin:end]
        # The front page is made on the hour; articles of the running hour wait for the next.
        item, propensity = publisher.slates(user, int(now))
        slates = behave(newsroom, user, at, item, propensity, rng)
        row, position = np.nonzero(slates.clicked)
        publisher.learn(user[row], item[row, position], int(now))
        if len(user):
            yield slates


def behave(
    newsroom: Newsroom,
    user: np.ndarray,
    at: np.ndarray,
    item: np.ndarray,
    propensity: np.ndarray,
    rng: np.random.Generator,
) -> Slates:
    """What users do with the slates that they are shown: R users at times (R,), items and propensities (R, SLATE)."""
    log_odds = newsroom.log_odds(user[:, None], item, at[:, None])
    probability = examination(np.arange(SLATE)) / (1 + np.exp(-log_odds))
    clicked = rng.random(item.shape) < probability
    # Reading all of it takes the longer the more there is, and people read the longer the more they care.
    whole = 10 + 6.0 * newsroom.articles.sentences[item]
    dwell = np.exp(np.log(whole) + 0.35 * (log_odds + 0.5) + rng.normal(0, 0.7, item.shape))
    dwell = np.where(clicked, np.clip(dwell, 1.0, _LONGEST), 0.0)
    scroll = np.clip(1 - np.exp(-1.3 * dwell / whole) + rng.normal(0, 0.08, item.shape), 0.02, 1.0)
    # From the top: look, click, read, come back, look on.
    clicked_at = at[:, None] + _LOOK_SECONDS * (np.arange(SLATE) + 1) + np.cumsum(dwell, axis=1) - dwell
    read = clicked & (dwell >= READ_SECONDS)
    fond = 2 / (1 + np.exp(-log_odds))
    return Slates(
        user=user,
        at=at,
        item=item,
        propensity=propensity,
        probability=probability,
        clicked=clicked,
        clicked_at=clicked_at,
        dwell=dwell,
        scroll=scroll,
        read=read,
        liked=read & (rng.random(item.shape) < _LIKE * fond),
        shared=read & (rng.random(item.shape) < _SHARE * fond),
    )
