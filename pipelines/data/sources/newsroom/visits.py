"""When users come: by their activity, their device, the hour of the day and the day of the week."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from pipelines.data.sources.newsroom.readers import SEGMENTS, Readers
from pipelines.data.sources.newsroom.sizes import DAY, END, HOUR, NewsroomSize

# Visits per hour of the day (UTC), relative: phones on the way to work and in bed, desktops in the office.
_HOURS: dict[str, list[float]] = {
    "mobile": [3, 2, 1, 1, 2, 6, 10, 10, 7, 5, 5, 6, 8, 6, 5, 5, 6, 8, 8, 8, 9, 10, 8, 5],
    "desktop": [1, 1, 0.5, 0.5, 1, 2, 4, 8, 11, 11, 10, 9, 9, 9, 9, 8, 7, 5, 4, 4, 4, 3, 2, 1],
    "tablet": [1, 0.5, 0.5, 0.5, 1, 2, 5, 6, 5, 4, 4, 4, 5, 4, 4, 4, 5, 6, 9, 12, 13, 11, 6, 2],
}
_WEEKDAYS = [1.05, 1.0, 1.0, 1.0, 0.95, 0.85, 0.95]  # Monday first


def draw_visits(size: NewsroomSize, readers: Readers, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Users (V,) and times (V,) in seconds since 1970, by time. A user comes at most once an hour."""
    calendar = _calendar(size)
    joined = np.maximum(readers.created_at - size.start, 0)
    # Share of all visits that came before a user joined; they come only afterwards.
    missed = calendar[readers.segment, np.minimum(-(-joined // HOUR), calendar.shape[1] - 1)]
    weight = readers.activity * (1 - missed)
    tries = round(size.requests * 1.15)
    user = rng.choice(len(readers), tries, p=weight / weight.sum())
    share = missed[user] + (1 - missed[user]) * rng.random(tries)
    hour = np.empty(tries, dtype=np.int64)
    for segment in range(len(SEGMENTS)):
        rows = readers.segment[user] == segment
        hour[rows] = np.searchsorted(calendar[segment], share[rows], side="right") - 1
    # A share that rounds to one is of the last hour in which anybody comes.
    hour = np.minimum(hour, calendar.shape[1] - 3)
    _, first = np.unique(user * len(calendar[0]) + hour, return_index=True)
    first = rng.permutation(first)[: size.requests]
    user, hour = user[first], hour[first]
    at = size.start + hour * HOUR + rng.integers(HOUR, size=len(user))
    order = np.lexsort((user, at))
    return user[order], at[order]


def _calendar(size: NewsroomSize) -> np.ndarray:
    """(segments, hours + 1): share of a segment's visits before each hour of the newsroom's days."""
    start = range(size.start, END, DAY)
    weekday = [_WEEKDAYS[datetime.fromtimestamp(day, UTC).weekday()] for day in start]
    rates = np.stack([np.outer(weekday, np.array(_HOURS[segment])).ravel() for segment in SEGMENTS])
    # Nobody comes in the last hour: what they would read ends before `END`.
    rates[:, -1] = 0
    return np.c_[np.zeros(len(rates)), np.cumsum(rates, axis=1) / rates.sum(axis=1, keepdims=True)]
