"""How often what was shown at a position was wanted."""

from __future__ import annotations

from typing import Any

from ibis import _

from pipelines.data.audit.findings import Checks, percent, share
from pipelines.data.audit.tables import Tables
from pipelines.metrics import wilson

_MOST = 200  # positions told apart
_EXPECTED = 20.0
_CHECKS = ("position_gaps", "dead_positions", "position_jumps", "repeated_positions")


def audit_positions(tables: Tables, checks: Checks) -> list[dict[str, Any]]:
    """The label rate by position: position, impressions, positives, rate, and its 95 % interval, low and high."""
    shown = tables.showings.filter((_.shown > 0) & _.position.between(0, _MOST - 1))
    rows = tables.engine.fetch(
        shown.group_by("position")
        .agg(impressions=_.count(), positives=_.wanted.cast("int64").sum())
        .order_by("position")
    )
    if not rows:
        checks.skip("no impression has a request and a position", *_CHECKS)
        return []
    for row in rows:
        row["rate"] = row["positives"] / row["impressions"]
        row["low"], row["high"] = wilson(row["positives"], row["impressions"])
    places = [row["position"] for row in rows if row["impressions"] >= _EXPECTED]
    gaps = sorted(set(range(max(places, default=-1) + 1)) - {row["position"] for row in rows})
    checks.add("position_gaps", len(gaps), f"positions that no impression has: {_some(gaps)}", "position")
    rate = sum(row["positives"] for row in rows) / sum(row["impressions"] for row in rows)
    dead = [row["position"] for row in rows if not row["positives"] and rate * row["impressions"] >= _EXPECTED]
    checks.add("dead_positions", len(dead), f"positions at which nothing was wanted: {_some(dead)}", "position")
    _jumps(rows, checks)
    at_place = tables.facts.filter(_.shown & _.request.notnull() & _.position.notnull())
    at_place = at_place.group_by("user", "request", "position").agg(items=_.item.nunique())
    repeats = tables.engine.fetch(at_place.agg(items=_.items.sum(), places=_.count()))[0]
    part = share(repeats["items"] - repeats["places"], repeats["items"])
    text = f"{percent(part)} of the impressions are at a place of their request that another item has"
    checks.add("repeated_positions", part, text, "position")
    return rows


def _jumps(rows: list[dict[str, Any]], checks: Checks) -> None:
    """The largest ratio, sure at about 99.9 %, of a position's rate to that of the two above it."""
    largest, where = 0.0, 0
    for place in range(1, len(rows)):
        above = rows[max(0, place - 2) : place]
        high = wilson(sum(row["positives"] for row in above), sum(row["impressions"] for row in above), z=3.3)[1]
        low = wilson(rows[place]["positives"], rows[place]["impressions"], z=3.3)[0]
        if low / high > largest:
            largest, where = low / high, rows[place]["position"]
    text = f"the label rate at position {where} is at least {largest:.2g} times that of the two positions before it"
    checks.add("position_jumps", largest, text, "position")


def _some(places: list[int], most: int = 8) -> str:
    more = f" and {len(places) - most} more" if len(places) > most else ""
    return ", ".join(map(str, places[:most])) + more if places else "none"
