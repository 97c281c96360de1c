"""Ten ways in which a day of traffic can differ from the days before, and the feature that must be named for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

HOUR = 3_600 * 1_000_000
DAY = 24 * HOUR


@dataclass(frozen=True)
class Day:
    """R slates of one day with K items each; times are microseconds since 1970."""

    start: int
    number: int
    version: int
    slate_user: list[str]
    at: np.ndarray  # (R,)
    language: list[str]
    device: list[str]
    item: np.ndarray  # (R, K) str, as all below are (R, K)
    category: np.ndarray
    item_language: np.ndarray
    published_at: np.ndarray
    score: np.ndarray
    clicked: np.ndarray
    clicked_at: np.ndarray
    dwell: np.ndarray
    scroll: np.ndarray


@dataclass(frozen=True)
class Shift:
    feature: str
    apply: Callable[[Day, np.random.Generator], Day]


def _some(day: Day, rng: np.random.Generator, share: float) -> set[str]:
    """A share of the day's users."""
    users = sorted(set(day.slate_user))
    return {user for user, drawn in zip(users, rng.random(len(users)) < share, strict=True) if drawn}


def _language(day: Day, rng: np.random.Generator) -> Day:
    some = _some(day, rng, 0.15)
    language = ["pt" if user in some else own for user, own in zip(day.slate_user, day.language, strict=True)]
    return dataclasses.replace(day, language=language)


def _device(day: Day, rng: np.random.Generator) -> Day:
    some = _some(day, rng, 0.25)
    device = ["desktop" if user in some else own for user, own in zip(day.slate_user, day.device, strict=True)]
    return dataclasses.replace(day, device=device)


def _interest(day: Day, rng: np.random.Generator) -> Day:
    """Half of the clicks go to one category, where the slate has an article of it."""
    names, counts = np.unique(day.category.astype(str), return_counts=True)
    sport = day.category == names[np.argsort(counts)[len(names) // 2]]
    clicked = day.clicked.copy()
    moved = {"clicked_at": day.clicked_at.copy(), "dwell": day.dwell.copy(), "scroll": day.scroll.copy()}
    for row in np.flatnonzero(sport.any(axis=1) & day.clicked.any(axis=1)):
        if rng.random() < 0.5:
            old, new = int(np.argmax(day.clicked[row])), int(np.argmax(sport[row]))
            clicked[row] = False
            clicked[row, new] = True
            for values in moved.values():
                values[row, new] = values[row, old]
    return dataclasses.replace(day, clicked=clicked, **moved)


def _history(day: Day, rng: np.random.Generator) -> Day:
    """A third of the users has lost their cookie."""
    some = _some(day, rng, 1 / 3)
    return dataclasses.replace(day, slate_user=[f"new-{user}" if user in some else user for user in day.slate_user])


def _hour(day: Day, rng: np.random.Generator) -> Day:
    """Everybody comes eight hours later, or sixteen hours earlier."""
    at = day.start + (day.at - day.start + 8 * HOUR) % DAY
    return dataclasses.replace(day, at=at, clicked_at=day.clicked_at + (at - day.at)[:, None])


def _old(day: Day, rng: np.random.Generator) -> Day:
    """No new articles since yesterday: older ones of the same language stand where those would."""
    fresh = day.published_at > day.start - DAY // 2
    item, published, category = day.item.copy(), day.published_at.copy(), day.category.copy()
    for language in np.unique(day.item_language.astype(str)):
        own = day.item_language == language
        wanted, there = np.nonzero((own & fresh).ravel())[0], np.nonzero((own & ~fresh).ravel())[0]
        chosen = rng.choice(there, len(wanted))
        for values in (item, published, category):
            values.ravel()[wanted] = values.ravel()[chosen]
    return dataclasses.replace(day, item=item, published_at=published, category=category)


SHIFTS = {
    "15 % of users in a new language": Shift("language", _language),
    "25 % of users move to desktops": Shift("device", _device),
    "interest moves to one category": Shift("wanted_category", _interest),
    "a third of users lose their cookie": Shift("history_length", _history),
    "dwell is halved": Shift("dwell_seconds", lambda day, _: dataclasses.replace(day, dwell=day.dwell / 2)),
    "scroll depth is reported as 0": Shift(
        "scroll_depth", lambda day, _: dataclasses.replace(day, scroll=day.scroll * 0)
    ),
    "users come eight hours later": Shift("hour", _hour),
    "scores are half as large": Shift("score_top", lambda day, _: dataclasses.replace(day, score=day.score / 2)),
    "another model behind the version": Shift("embedding", lambda day, _: day),
    "no new articles since yesterday": Shift("item_age_hours", _old),
}
