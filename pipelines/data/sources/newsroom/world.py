"""The newsroom and its ground truth: how likely a user is to click an article that is shown to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.sources.newsroom.articles import Articles, write_schedule
from pipelines.data.sources.newsroom.readers import Readers, register
from pipelines.data.sources.newsroom.sizes import NewsroomSize, size_of, stream
from pipelines.errors import BadInput

# Probability that a user looks at a position at all (Craswell et al. 2008): 1 at the top, a third at the bottom.
_POSITION_DECAY = 0.48
_OFFSET = -2.75


@dataclass(frozen=True)
class Newsroom:
    """Articles, users, and the true probability of a click.

    P(click) = examination(position) * sigmoid(affinity + attractiveness + offset), where affinity is the user's
    interests, the entities that they follow and the languages that they read (`Readers.affinity`), and attractiveness
    is the article's appeal, its freshness and the heat of its story (`Articles.attractiveness`).

    Clicks of a slate are independent of each other given this probability. Nothing here depends on what was shown or
    clicked before, so any policy can be simulated against it.

    Example:
        >>> newsroom = Newsroom.generate("small", seed=17)
        >>> best = newsroom.click_probability(newsroom.readers.ids[:1], newsroom.articles.ids, at=1_741_800_000)
        >>> best.shape
        (1200,)
    """

    size: NewsroomSize
    seed: int
    articles: Articles
    readers: Readers

    @classmethod
    def generate(cls, size: str | NewsroomSize, seed: int = 17) -> Newsroom:
        """Make the newsroom of a size and seed, without texts, images and events. The same as `import_newsroom`'s.

        Raises:
            BadInput: There is no such size, or the seed is negative.
        """
        size = size_of(size)
        if seed < 0:
            raise BadInput(f"the newsroom's seed must be 0 or more, not {seed}.")
        articles = write_schedule(size, stream(seed, 0))
        return cls(size, seed, articles, register(size, articles.names, stream(seed, 1)))

    def click_probability(self, user_ids: object, item_ids: object, at: object, position: object = 0) -> np.ndarray:
        """The true probability that a user clicks an item shown to them at a time and position.

        Whether the item was live or the user registered at that time is not checked.

        Args:
            user_ids: Ids as in users.parquet.
            item_ids: Ids as in items.parquet.
            at: Seconds since 1970, UTC.
            position: In the slate, from 0. At 0 examination is certain, so 0 for all compares items as such.

        Returns:
            Of the shape that the four arguments broadcast to.

        Raises:
            KeyError: An id is not of this newsroom.
        """
        users = _places(self.readers.ids, user_ids)
        items = _places(self.articles.ids, item_ids)
        return examination(position) * self.attraction(users, items, np.asarray(at))

    def attraction(self, users: np.ndarray, items: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The probability of a click once the item is looked at; users and items as places in their tables."""
        return 1 / (1 + np.exp(-self.log_odds(users, items, at)))

    def log_odds(self, users: np.ndarray, items: np.ndarray, at: np.ndarray) -> np.ndarray:
        """What `attraction` is the sigmoid of."""
        affinity = self.readers.affinity(users, items, self.articles, at)
        return affinity + self.articles.attractiveness(items, at) + _OFFSET


def examination(position: object) -> np.ndarray:
    """The probability that a user looks at a position, from 0."""
    return (np.asarray(position) + 1.0) ** -_POSITION_DECAY


def _places(known: np.ndarray, ids: object) -> np.ndarray:
    wanted = np.asarray(ids, dtype=object)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    if not np.all(known[places] == wanted):
        raise KeyError(f"not of this newsroom: {wanted[known[places] != wanted].ravel()[0]!r}")
    return places
