"""The same figures for every part of the data: languages, categories, head and tail, new and old users."""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir
from ibis import _

from pipelines.data.audit.columns import finite_only
from pipelines.data.audit.findings import share
from pipelines.data.audit.tables import Tables

SLICES = ("language", "category", "popularity", "tenure", "user_language", "device", "kind")
_MOST = 30  # values of a slice, by number of events
_POSITIONS = 10
UNKNOWN = "(unknown)"


def audit_slices(tables: Tables) -> dict[str, list[dict[str, Any]]]:
    """For each value of each slice: counts, label rate, dwell, depth, missing values, duplicates, rate by position."""
    return {name: rows for name in SLICES if (rows := _slice(tables, name))}


def _slice(tables: Tables, name: str) -> list[dict[str, Any]]:
    engine = tables.engine
    value = _[name].fill_null(UNKNOWN)
    read = _.kind.isin(("click", "read"))
    rows = engine.fetch(
        tables.facts.group_by(value=value)
        .agg(
            events=_.count(),
            users=_.user.nunique(),
            items=_.item.nunique(),
            impressions=_.shown.cast("int64").sum(),
            positives=_.positive.cast("int64").sum(),
            reads=read.fill_null(False).cast("int64").sum(),
            dwells=_.dwell_seconds.count(where=read),
            positioned=_.position.count(where=_.shown),
            devices=_.device.count(),
            dwell_median=finite_only(_.dwell_seconds).quantile(0.5),
            scroll_median=finite_only(_.scroll_depth).quantile(0.5),
        )
        .order_by(ibis.desc("events"), "value")
        .limit(_MOST)
    )
    if [row["value"] for row in rows] in ([], [UNKNOWN]):
        return []
    rates = _rates(tables, name)
    repeats = _repeats(tables, name) if tables.has_times else {}
    total = engine.fetch(tables.facts.agg(events=_.count()))[0]["events"]
    for row in rows:
        row["share"] = share(row["events"], total)
        row["missing"] = {
            "dwell_seconds": share(row["reads"] - row.pop("dwells"), row.pop("reads")),
            "position": share(row["impressions"] - row.pop("positioned"), row["impressions"]),
            "device": share(row["events"] - row.pop("devices"), row["events"]),
        }
        row["duplicates"] = share(repeats.get(row["value"], 0), row["events"]) if tables.has_times else None
        by_position = rates.get(row["value"], {})
        shown = sum(each["impressions"] for each in by_position.values())
        row["label_rate"] = share(sum(each["positives"] for each in by_position.values()), shown)
        row["label_rate_by_position"] = [
            share(by_position[place]["positives"], by_position[place]["impressions"]) if place in by_position else None
            for place in range(min(_POSITIONS, max((p for p in by_position if p >= 0), default=-1) + 1))
        ]
    return rows


def _about(tables: Tables, name: str) -> ir.Table:
    """What a slice goes by, for each item or each user."""
    return (
        tables.user_facts.select("user", name)
        if name in ("tenure", "user_language")
        else tables.item_facts.select("item", name)
    )


def _rates(tables: Tables, name: str) -> dict[str, dict[int, dict[str, int]]]:
    """By value and position (-1 for unknown): impressions and positives."""
    shown = tables.showings.filter(_.shown > 0)
    if name == "kind":
        return {}
    if name == "device":
        of_request = tables.facts.filter(_.request.notnull()).group_by("user", "request").agg(device=_.device.min())
        shown = shown.join(of_request, ["user", "request"])
    else:
        about = _about(tables, name)
        shown = shown.join(about, about.columns[0])
    rows = tables.engine.fetch(
        shown.group_by(value=_[name].fill_null(UNKNOWN), position=_.position.fill_null(-1)).agg(
            impressions=_.count(), positives=_.wanted.cast("int64").sum()
        )
    )
    found: dict[str, dict[int, dict[str, int]]] = {}
    for row in rows:
        found.setdefault(row["value"], {})[row["position"]] = row
    return found


def _repeats(tables: Tables, name: str) -> dict[str, int]:
    """By value, the events that repeat another's user, item, kind and moment."""
    groups = tables.facts.group_by(value=_[name].fill_null(UNKNOWN), user=_.user, item=_.item, kind=_.kind, at=_["at"])
    rows = groups.agg(rows=_.count()).filter(_.rows > 1).group_by("value").agg(repeats=(_.rows - 1).sum())
    return {row["value"]: row["repeats"] for row in tables.engine.fetch(rows)}
