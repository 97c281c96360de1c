"""What a monitor stores: measures, alerts, and what it remembers. An erased user is in none of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from pydantic import ValidationError

from serving.events import Store
from serving.events.errors import BadStore
from serving.events.log import ignoring_known
from serving.events.tables import ALERTS, MEASURES, MONITORS
from serving.monitoring.drift import CENTROID, KS, PSI
from serving.monitoring.features import OF_THE_AGENDA
from serving.monitoring.measures import Measure
from serving.monitoring.memory import read_memory
from serving.monitoring.rules import Rules
from serving.monitoring.triggers import Fired, State, step
from serving.monitoring.window import SECOND

MOST_DUE = 60  # windows that are made up for
_LOOKED_BACK, _FIRST, _FEWEST = 28, 7, 3  # windows that say what is usual
_FIELDS = [field.name for field in fields(Measure)]
_COLUMNS = [MEASURES.c[name] for name in _FIELDS]


class Stored(NamedTuple):
    """A window's measures; times are microseconds since 1970."""

    start: int
    end: int
    measures: list[Measure]


class Measured(Protocol):
    """A window that can be judged: an `Observation`, or one that was stored."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...

    @property
    def measures(self) -> list[Measure]: ...


def write_measures(store: Store, start: int, end: int, measures: Sequence[Measure]) -> None:
    """Store a window's measures, in place of those that are stored of it.

    Raises:
        StoreAway: The database cannot be written; nothing was changed.
    """
    seconds = (end - start) // SECOND
    rows = [asdict(each) | {"start": start, "seconds": seconds, "note": each.note or None} for each in measures]
    with store.writing() as connection:
        store.take_turns(connection, MEASURES)
        connection.execute(MEASURES.delete().where(MEASURES.c.start == start, MEASURES.c.seconds == seconds))
        if rows:
            connection.execute(MEASURES.insert(), rows)


def read_measures(
    store: Store, metric: str, *, seconds: int, since: int = 0, variant: str = "", slice: str = ""
) -> list[tuple[int, Measure]]:
    """One measure over time: the windows' starts and values.

    Args:
        store: An open store.
        metric: Its name, such as `ctr`.
        variant, slice: Of it; "" for all.
        seconds: The windows' length.
        since: Microseconds since 1970.

    Raises:
        StoreAway: The database cannot be reached.

    Example:
        >>> from serving import Store, observe, read_measures
        >>> with Store("store-of-measures") as store:
        ...     seen = observe(store, 0, 3_600_000_000)
        ...     [(start, found.value) for start, found in read_measures(store, "slates", seconds=3_600)]
        [(0, 0.0)]
    """
    table = MEASURES.c
    chosen = (table.metric == metric) & (table.variant == variant) & (table.slice == slice)
    query = sa.select(table.start, *_COLUMNS).where(chosen, table.seconds == seconds, table.start >= since)
    with store.reading() as connection:
        return [(row.start, _measure(row)) for row in connection.execute(query.order_by(table.start))]


def last_window(store: Store, seconds: int | None = None) -> Stored | None:
    """The latest window that is stored, of this length or any; None where there is none.

    Raises:
        StoreAway: The database cannot be reached.
    """
    table = MEASURES.c
    query = sa.select(table.start, table.seconds).order_by(table.start.desc(), table.seconds.desc()).limit(1)
    with store.reading() as connection:
        found = connection.execute(query if seconds is None else query.where(table.seconds == seconds)).first()
        if found is None:
            return None
        return _stored(connection, found.start, found.seconds)


def unjudged_windows(store: Store, seconds: int, *, most: int = MOST_DUE) -> list[Stored]:
    """Windows of this length that are stored and no rules have judged, the oldest first: a monitor ended between the
    two, or the store was away.

    Args:
        most: The latest ones.

    Raises:
        StoreAway: The database cannot be reached.
        BadStore: As for `read_state`.
    """
    judged, table = read_state(store, seconds).window, MEASURES.c
    query = sa.select(table.start).distinct().where(table.seconds == seconds)
    if judged is not None:
        query = query.where(table.start > judged)
    with store.reading() as connection:
        starts = connection.execute(query.order_by(table.start.desc()).limit(most)).scalars().all()
        return [_stored(connection, start, seconds) for start in reversed(starts)]


def usual_sizes(store: Store, before: int, *, seconds: int, role: str) -> dict[str, float]:
    """By feature, the largest size of its difference from a reference in earlier windows, those aside in which it had
    drifted; only of features that were compared in some windows.

    These are the first of the last `_LOOKED_BACK`: would the latest count, what grows slowly would always be usual.
    What follows the agenda is another thing every day, and all count.

    Args:
        before: Start of the window that is to be judged, in microseconds since 1970.
        seconds: The windows' length.
        role: Of the reference: training, live or before.

    Raises:
        StoreAway: The database cannot be reached.
    """
    table = MEASURES.c
    since = before - _LOOKED_BACK * seconds * SECOND
    chosen = (table.seconds == seconds) & (table.start >= since) & (table.start < before) & (table.variant == "")
    query = sa.select(table.start, table.metric, table.value).where(chosen, table.slice == f"reference={role}")
    windows: dict[int, dict[str, float]] = {}
    with store.reading() as connection:
        for start, metric, value in connection.execute(query):
            windows.setdefault(start, {})[metric] = value
    found: dict[str, list[float]] = {}
    for _, metrics in sorted(windows.items()):
        for metric, value in metrics.items():
            kind, _, feature = metric.partition(".")
            decides = kind in (KS, CENTROID) or (kind == PSI and f"{KS}.{feature}" not in metrics)
            if decides and not metrics.get(f"drift.{feature}"):
                found.setdefault(feature, []).append(value)
    return {
        feature: max(sizes if feature in OF_THE_AGENDA else sizes[:_FIRST])
        for feature, sizes in found.items()
        if len(sizes) >= _FEWEST
    }


def alerts(store: Store, since: int = 0) -> list[Fired]:
    """What fired since then (microseconds since 1970), the oldest first.

    Args:
        store: An open store.
        since: Microseconds since 1970.

    Raises:
        StoreAway: The database cannot be reached.

    Example:
        >>> from serving import Store, alerts
        >>> with Store("store-without-traffic") as store:
        ...     alerts(store)
        []
    """
    columns = [ALERTS.c[name] for name in Fired._fields]
    query = sa.select(*columns).where(ALERTS.c.at >= since).order_by(ALERTS.c.at, ALERTS.c.id)
    with store.reading() as connection:
        return [Fired(*row) for row in connection.execute(query)]


def read_state(store: Store, seconds: int) -> State:
    """How far the rules are, as monitors of windows of this length judge them.

    Raises:
        StoreAway: The database cannot be reached.
        BadStore: It is not known what is stored: it is a newer Belfry's.
    """
    return _state(read_memory(store, _rules(seconds)))


def evaluate_rules(store: Store, rules: Rules, seen: Measured, now: int) -> list[Fired]:
    """Judge a window by the rules, and store what fired. Of several monitors one does it; a window is judged once.

    Args:
        seen: What `observe` returned, or `last_window`.
        now: Microseconds since 1970.

    Returns:
        What fired now, for the first time. Whoever gets it is to act on it.

    Raises:
        StoreAway: The database cannot be reached or written; nothing fired.
        BadStore: As for `read_state`.

    Example:
        >>> from serving import Rule, Rules, Store, evaluate_rules, observe, wall_clock
        >>> quiet = Rules(rules=(Rule(name="quiet", metric="slates", below=1),))
        >>> with Store("store-of-rules") as store:
        ...     fired = evaluate_rules(store, quiet, observe(store, 0, 3_600_000_000), wall_clock())
        >>> [(each.rule, each.state) for each in fired]
        [('quiet', 'raised')]
    """
    seconds = (seen.end - seen.start) // SECOND
    name = _rules(seconds)
    with store.writing() as connection:
        connection.execute(ignoring_known(store, MONITORS), {"name": name, "content": State().model_dump_json()})
        # Held until the end: another monitor that judges the same window finds it judged.
        mine = sa.select(MONITORS.c.content).where(MONITORS.c.name == name).with_for_update()
        state, fired = step(_state(connection.execute(mine).scalar_one()), rules, seen.measures, now, window=seen.start)
        changed = MONITORS.update().where(MONITORS.c.name == name).values(content=state.model_dump_json())
        connection.execute(changed)
        if fired:
            rows = [each._asdict() | {"id": f"{seen.start}/{seconds}/{each.rule}/{each.state}"} for each in fired]
            connection.execute(ignoring_known(store, ALERTS), rows)
    return fired


def _stored(connection: sa.Connection, start: int, seconds: int) -> Stored:
    table = MEASURES.c
    query = sa.select(*_COLUMNS).where(table.start == start, table.seconds == seconds)
    rows = connection.execute(query.order_by(table.variant, table.slice, table.metric))
    return Stored(start, start + seconds * SECOND, [_measure(row) for row in rows])


def _rules(seconds: int) -> str:
    return f"rules:{seconds}"


def _state(content: str | None) -> State:
    try:
        return State() if content is None else State.model_validate_json(content)
    except ValidationError:
        raise BadStore("What the monitor remembers cannot be read: it is a newer Belfry's.") from None


def _measure(row: Any) -> Measure:
    # By name through the mapping: a row has a method called count.
    values = {name: row._mapping[name] for name in _FIELDS}
    return Measure(**(values | {"note": row.note or ""}))
