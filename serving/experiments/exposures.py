"""What an experiment's users saw and did, counted from the store's slates and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import sqlalchemy as sa

from serving.events import Store
from serving.events.tables import EVENTS, POSITIVE_KINDS, SLATES

INTERLEAVED = "interleaved"
COUNTS = (
    *("slates", "shown", "clicks", "clicked", "dwell", "fallbacks", "timed", "latency_ms"),
    *("wins", "losses", "preference"),
)
_PAGE = 20_000
_COLUMNS = (
    "request_id",
    "user_id",
    "at",
    "version",
    "variant",
    "fallback",
    "language",
    "device",
    "items",
    "latency_ms",
)


def label_of(experiment: str, variant: str) -> str:
    """How a slate's `variant` names one experiment's; several are joined by commas."""
    return f"{experiment}:{variant}"


def variant_in(text: str | None, experiment: str) -> str | None:
    """The variant of an experiment that a slate was made by; None for none."""
    for part in (text or "").split(","):
        name, _, variant = part.partition(":")
        if name == experiment and variant:
            return variant
    return None


@dataclass
class Arm:
    """The users of a variant: `counts[name]` and `before[name]` are (U,) arrays by the names of `COUNTS`.

    `shown` and `clicks` are of items on slates (an item clicked twice on a slate counts once), `clicked` slates with a
    click or more, `dwell` seconds on these, `timed` slates whose `latency_ms` is known, `wins` and `losses` clicks on
    the second's and the first's items of interleaved slates, `preference` slates that prefer the second, less those
    that prefer the first.

    Args:
        versions: Slates by the version of the model that answered; without those for which another stood in.
    """

    users: list[str]
    counts: dict[str, np.ndarray]
    before: dict[str, np.ndarray]
    versions: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)


@dataclass
class Exposures:
    """Arms by variant, and how many users saw more than one and are in none."""

    arms: dict[str, Arm]
    left_out: int
    named: int  # clicks that name a request of the experiment


@dataclass
class _Tally:
    counts: dict[str, Counter[str]] = field(default_factory=dict)  # by variant
    before: Counter[str] = field(default_factory=Counter)


def read_exposures(
    store: Store,
    experiment: str,
    variants: Sequence[str],
    start: int,
    end: int,
    before: int = 0,
    *,
    moving: bool = False,
) -> Exposures:
    """Count what users of an experiment saw from `start` to `end` (microseconds since 1970), and what they did since.

    Keeps a few numbers a user in memory, and the clicks of the time; slates are read page by page.

    Args:
        before: Microseconds before `start` that are counted beside, as `Arm.before`.
        moving: Users are moved between variants, as Thompson sampling does: each is in every arm, with what they saw
            of it. To leave them out would take from the worse arms those who come often.

    Raises:
        StoreAway: The database cannot be reached.
    """
    tallies: dict[str, _Tally] = {}
    versions: dict[str, Counter[int]] = {variant: Counter() for variant in variants}
    clicks = read_clicks(store, start - before, end)
    for row in read_slates(store, start, end):
        variant = variant_in(row.variant, experiment)
        if variant is not None:
            counts = tallies.setdefault(row.user_id, _Tally()).counts.setdefault(variant, Counter())
            _count(counts, row, clicks.get(row.request_id, {}))
            if row.fallback is None and row.version is not None:
                versions.setdefault(variant, Counter())[row.version] += 1
    if before and tallies:
        for row in read_slates(store, start - before, start):
            if row.user_id in tallies:
                _count(tallies[row.user_id].before, row, clicks.get(row.request_id, {}))
    named = sum(counts["clicks"] for tally in tallies.values() for counts in tally.counts.values())
    chosen = {user: tally for user, tally in sorted(tallies.items()) if moving or len(tally.counts) == 1}
    arms = {}
    for variant in variants:
        there = {user: tally for user, tally in chosen.items() if variant in tally.counts}
        arms[variant] = Arm(
            list(there),
            {name: np.array([each.counts[variant][name] for each in there.values()], np.float64) for name in COUNTS},
            {name: np.array([each.before[name] for each in there.values()], np.float64) for name in COUNTS},
            dict(versions[variant]),
        )
    return Exposures(arms, len(tallies) - len(chosen), named)


def _count(counts: Counter[str], row: Any, clicked: dict[str, float]) -> None:
    wins = losses = found = 0
    items = orjson.loads(row.items)
    for item_id, _, _, _, _, *team in items:
        if item_id in clicked:
            found += 1
            counts["dwell"] += clicked[item_id]  # type: ignore[assignment]
            wins += team == [1]
            losses += team == [0]
    counts["slates"] += 1
    counts["clicks"] += found
    counts["clicked"] += found > 0
    counts["shown"] += len(items)
    counts["fallbacks"] += row.fallback is not None
    if row.latency_ms is not None:
        counts["timed"] += 1
        counts["latency_ms"] += row.latency_ms
    counts["wins"] += wins
    counts["losses"] += losses
    counts["preference"] += (wins > losses) - (wins < losses)


def read_clicks(store: Store, start: int, end: int) -> dict[str, dict[str, float]]:
    """Items that were wanted from `start` to `end` (microseconds since 1970), by request, with the longest dwell."""
    query = (
        sa.select(EVENTS.c.request_id, EVENTS.c.item_id, sa.func.max(EVENTS.c.dwell_seconds).label("dwell"))
        .where(
            EVENTS.c.at >= start,
            EVENTS.c.at < end,
            EVENTS.c.request_id.is_not(None),
            EVENTS.c.kind.in_(POSITIVE_KINDS),
        )
        .group_by(EVENTS.c.request_id, EVENTS.c.item_id)
    )
    found: dict[str, dict[str, float]] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            found.setdefault(row.request_id, {})[row.item_id] = row.dwell or 0.0
    return found


def read_slates(store: Store, start: int, end: int) -> Iterator[Any]:
    """Slates of a time, page by page, so that a long experiment does not hold one statement open."""
    columns = [SLATES.c[name] for name in _COLUMNS]
    last = (start, "")
    while True:
        after = (SLATES.c.at > last[0]) | ((SLATES.c.at == last[0]) & (SLATES.c.request_id > last[1]))
        query = sa.select(*columns).where(SLATES.c.at >= last[0], SLATES.c.at < end, after)
        with store.reading() as connection:
            page = connection.execute(query.order_by(SLATES.c.at, SLATES.c.request_id).limit(_PAGE)).all()
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1].at, page[-1].request_id
