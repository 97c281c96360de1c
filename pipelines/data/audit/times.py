"""When things happened, and when they cannot have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
from ibis import _

from pipelines.data.audit.findings import Checks, percent, share
from pipelines.data.audit.tables import Tables

EARLIEST = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp())
_DAY = 86_400
_BUSY = 20  # events on the median day, from which a day without any is a gap
_FEWEST = 100  # events from which their times of day say something
_ALL = (
    *("before_1990", "after_now", "outside_time_range", "time_gaps", "coarse_times", "before_joining"),
    *("before_publication", "after_removal"),
)


def audit_times(tables: Tables, checks: Checks, now: datetime) -> dict[str, Any]:
    """Check the times of events, and count them by day and by hour of the day (UTC).

    Args:
        tables: Of a dataset. One whose clock is the order of its rows has no times to check.
        checks: Gets the results.
        now: Later events are in the future.
    """
    if not tables.has_times:
        checks.skip("the dataset has no times: the order of its rows is the clock", *_ALL)
        return {}
    engine, info, latest = tables.engine, tables.dataset.info, int(now.timestamp())
    first, last = (int(each.timestamp()) if each else None for each in (info.first_at, info.last_at))
    if first is None or last is None:  # dataset.json does not say: nothing is outside
        first, last = -(2**62), 2**62
    row = engine.fetch(
        tables.facts.agg(
            events=_.count(),
            before_1990=(_.second < EARLIEST).cast("int64").sum(),
            after_now=(_.second > latest).cast("int64").sum(),
            outside_time_range=(~_.second.between(first, last)).cast("int64").sum(),
            **{
                f"{name}{suffix}": value
                for name in ("before_publication", "after_removal", "before_joining")
                for suffix, value in (("", _[name].cast("int64").sum()), (" known", _[name].count()))
            },
        )
    )[0]
    events = row["events"]
    for check, what in (
        ("before_1990", "before 1990"),
        ("after_now", "later than now"),
        ("outside_time_range", "outside of the time range in dataset.json"),
    ):
        part = share(row[check], events)
        checks.add(check, part, f"{percent(part)} of the events are {what} ({row[check] or 0:,})", "events.at")
    for check, what, why in (
        ("before_publication", "before their item was published", "no item of the events has published_at"),
        ("after_removal", "two hours or more after their item was removed", "no item of the events has removed_at"),
        ("before_joining", "before their user's created_at", "no user of the events has created_at"),
    ):
        if not row[f"{check} known"]:
            checks.skip(why, check)
            continue
        part = share(row[check], row[f"{check} known"])
        checks.add(check, part, f"{percent(part)} of the events are {what} ({row[check]:,})")
    plausible = tables.facts.filter(_.second.between(EARLIEST, latest))
    days = engine.fetch(
        plausible.group_by(day=(_.second / _DAY).floor().cast("int64"), kind=_.kind)
        .agg(events=_.count())
        .order_by("day", "kind")
    )
    seconds = plausible.group_by(second=_.second % _DAY).agg(events=_.count())
    commonest = engine.fetch(seconds.order_by(ibis.desc("events"), "second").limit(1))
    _gaps(days, checks)
    if commonest:
        total = sum(day["events"] for day in days)
        part = share(commonest[0]["events"], total)
        clock = timedelta(seconds=commonest[0]["second"])
        text = f"{percent(part)} of the events are at {clock} (UTC) exactly"
        checks.add("coarse_times", part, text, "events.at", sure=total >= _FEWEST)
    hours = engine.fetch(
        plausible.group_by(hour=((_.second % _DAY) / 3600).floor().cast("int64")).agg(events=_.count()).order_by("hour")
    )
    for each in days:
        each["day"] = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=each["day"])).date().isoformat()
    return {"checked": row, "days": days, "hours": hours}


def _gaps(days: list[dict[str, Any]], checks: Checks) -> None:
    by_day: dict[int, int] = {}
    for row in days:
        by_day[row["day"]] = by_day.get(row["day"], 0) + row["events"]
    counts = sorted(by_day.values())
    if len(counts) < 3 or counts[len(counts) // 2] < _BUSY:
        checks.skip(f"there are less than 3 days, or less than {_BUSY} events on the median day", "time_gaps")
        return
    empty = max(by_day) - min(by_day) + 1 - len(by_day)
    checks.add("time_gaps", empty, f"{empty:,} days between the first and the last have no event", "events.at")
