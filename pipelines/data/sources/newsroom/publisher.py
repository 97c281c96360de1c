"""The publisher's own policy: each place of a slate is drawn from a mix of newest, trending and any live article."""

from __future__ import annotations

import numpy as np

from pipelines.data.sources.newsroom.articles import Articles
from pipelines.data.sources.newsroom.language import LANGUAGES
from pipelines.data.sources.newsroom.readers import Readers
from pipelines.data.sources.newsroom.sizes import HOUR, SLATE

_NEWEST, _TRENDING, _ANY = 0.35, 0.4, 0.25
_NEWEST_HALF_LIFE = 6 * HOUR
_TRENDING_HALF_LIFE = 6  # in steps of an hour
_PRIOR_CLICKS = 0.3  # an article without clicks can trend a little, too
_SECOND_LANGUAGE = 0.25
# An article that the user has read comes back only where nothing else is left.
_READ_ALREADY = 1e-6


class Publisher:
    """Fills slates hour by hour, and learns what trends from the clicks of the hours before.

    Places are filled from the top without repeats: the probability of an article at a place is its share of what is
    left of the mix (Plackett-Luce). That share is the logged propensity, given what stands above.
    """

    def __init__(self, articles: Articles, readers: Readers, rng: np.random.Generator) -> None:
        self.articles = articles
        self.readers = readers
        self.rng = rng
        self.trend = np.zeros(len(articles))
        self._by_language = [np.flatnonzero(articles.language == place) for place in range(len(LANGUAGES))]
        # Clicks on articles that are still live, as (2, C) users and items.
        self._clicked = np.empty((2, 0), dtype=np.int64)

    def slates(self, users: np.ndarray, now: int) -> tuple[np.ndarray, np.ndarray]:
        """Slates for R users at one time: items (R, SLATE) from the top, and propensities (R, SLATE)."""
        items = np.empty((len(users), SLATE), dtype=np.int64)
        propensity = np.empty((len(users), SLATE))
        live = [self._live(language, now) for language in range(len(LANGUAGES))]
        languages = np.stack([self.readers.language[users], self.readers.second_language[users]])
        for first, second in np.unique(languages, axis=1).T:
            rows = np.flatnonzero((languages[0] == first) & (languages[1] == second))
            pool, mix = live[first], self._mix(live[first], now)
            if second >= 0:
                pool = np.r_[pool, live[second]]
                mix = np.r_[(1 - _SECOND_LANGUAGE) * mix, _SECOND_LANGUAGE * self._mix(live[second], now)]
            items[rows], propensity[rows] = self._draw(users[rows], pool, mix)
        return items, propensity

    def learn(self, users: np.ndarray, items: np.ndarray, now: int) -> None:
        """Take in the clicks of an hour."""
        self.trend *= 0.5 ** (1 / _TRENDING_HALF_LIFE)
        np.add.at(self.trend, items, 1.0)
        self._clicked = np.concatenate([self._clicked, np.stack([users, items])], axis=1)
        oldest = min(live[0] for language in range(len(LANGUAGES)) if len(live := self._live(language, now)))
        self._clicked = self._clicked[:, self._clicked[1] >= oldest]

    def _live(self, language: int, now: int) -> np.ndarray:
        """Items of a language that can be shown, oldest first."""
        own = self._by_language[language]
        published = self.articles.published_at[own]
        shown = own[: int(np.searchsorted(published, now, side="right"))]
        return shown[self.articles.removed_at[shown] > now]

    def _mix(self, pool: np.ndarray, now: int) -> np.ndarray:
        newest = np.exp2(-(now - self.articles.published_at[pool]) / _NEWEST_HALF_LIFE)
        trending = self.trend[pool] + _PRIOR_CLICKS
        return _NEWEST * newest / newest.sum() + _TRENDING * trending / trending.sum() + _ANY / len(pool)

    def _draw(self, users: np.ndarray, pool: np.ndarray, mix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weight = np.tile(mix.astype(np.float32), (len(users), 1))
        row_of = np.full(len(self.readers), -1, dtype=np.int32)
        row_of[users] = np.arange(len(users))
        column_of = np.full(len(self.articles), -1, dtype=np.int32)
        column_of[pool] = np.arange(len(pool))
        row, column = row_of[self._clicked[0]], column_of[self._clicked[1]]
        known = (row >= 0) & (column >= 0)
        weight[row[known], column[known]] *= _READ_ALREADY

        # The smallest of exponential waiting times with these rates is a draw without replacement, in order.
        waiting = self.rng.standard_exponential(weight.shape, dtype=np.float32) / weight
        top = np.argpartition(waiting, SLATE - 1, axis=1)[:, :SLATE]
        order = np.argsort(np.take_along_axis(waiting, top, axis=1), axis=1)
        top = np.take_along_axis(top, order, axis=1)
        share = np.take_along_axis(weight, top, axis=1).astype(np.float64)
        above = np.cumsum(share, axis=1) - share
        left = weight.sum(axis=1, dtype=np.float64, keepdims=True) - above
        return pool[top], np.clip(share / left, 1e-9, 1.0)
