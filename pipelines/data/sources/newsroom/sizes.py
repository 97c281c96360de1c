"""How large a newsroom is, and when it takes place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from pipelines.errors import BadInput

HOUR = 3_600
DAY = 24 * HOUR
# Fixed in the past, so that the same seed gives the same bytes on any day.
END = int(datetime(2025, 3, 14, tzinfo=UTC).timestamp())
# Articles appear this long before the first visit, so that the first visitor finds a full front page.
WARM_UP = 2 * DAY
SLATE = 10  # items a visit is shown
FRONT_PAGE = 2 * SLATE  # articles that each language has when the visits begin
_FEWEST_ARTICLES = 250


@dataclass(frozen=True)
class NewsroomSize:
    """Counts of a newsroom. `requests` is reached within a few per cent; each shows `SLATE` items.

    Args:
        articles: 250 or more.
        users: Readers.
        days: Of visits.
        requests: Visits, each with one slate.

    Raises:
        BadInput: A count is too small.

    Example:
        >>> from pipelines import NewsroomSize
        >>> NewsroomSize(articles=250, users=60, days=4, requests=500).users
        60
    """

    articles: int
    users: int
    days: int
    requests: int

    def __post_init__(self) -> None:
        if self.articles < _FEWEST_ARTICLES or min(self.users, self.days, self.requests) < 1:
            raise BadInput(
                f"a newsroom needs {_FEWEST_ARTICLES} articles or more, and at least one user, day and request."
            )

    @property
    def start(self) -> int:
        """When visits begin, in seconds since 1970; they end at `END`."""
        return END - self.days * DAY


SIZES = {
    "small": NewsroomSize(articles=1_200, users=1_500, days=14, requests=15_000),
    "medium": NewsroomSize(articles=12_000, users=15_000, days=28, requests=150_000),
    "large": NewsroomSize(articles=100_000, users=80_000, days=30, requests=500_000),
}


def size_of(size: str | NewsroomSize) -> NewsroomSize:
    """A size by its name; a `NewsroomSize` is returned as it is.

    Raises:
        BadInput: There is no size of that name.
    """
    if isinstance(size, NewsroomSize):
        return size
    if size not in SIZES:
        raise BadInput(f"{size!r} is not a size of the newsroom: choose {', '.join(SIZES)}.")
    return SIZES[size]


def stream(seed: int, *part: int) -> np.random.Generator:
    """The random numbers of one part of the newsroom: changing one part leaves the others as they were."""
    return np.random.default_rng([seed, *part])
