"""Rows that are there twice."""

from __future__ import annotations

from typing import Any

import ibis.expr.types as ir
from ibis import _

from pipelines.data.audit.findings import Checks, percent, share
from pipelines.data.audit.tables import Tables
from pipelines.data.engine import DuckDB


def audit_duplicates(tables: Tables, checks: Checks) -> dict[str, Any]:
    """Count repeats of ids, events and titles. A repeat is every row of a group but one."""
    engine, found = tables.engine, {}

    def count(check: str, table: ir.Table, keys: list[str], what: str) -> None:
        rows, repeats = _repeats(engine, table, keys)
        found[check] = {"rows": rows, "repeats": repeats}
        part = share(repeats, rows)
        checks.add(check, part, f"{percent(part)} of the {what} ({repeats:,} of {rows:,})", ", ".join(keys))

    count("duplicate_event_ids", tables.source, ["event_id"], "events have the event_id of another")
    if tables.has_times:
        same = ["user", "item", "kind", "at"]
        count("duplicate_events", tables.facts, same, "events repeat the user, item, kind and moment of another")
    else:
        checks.skip("the dataset has no times: the order of its rows is the clock", "duplicate_events")
    count("duplicate_items", tables.items, ["item_id"], "items have the item_id of another")
    if tables.users is not None:
        count("duplicate_users", tables.users, ["user_id"], "users have the user_id of another")
    else:
        checks.skip("the dataset has no table of users", "duplicate_users")
    titled = tables.items.filter(_.title.notnull()).select(title=_.title.strip().lower(), language=_.language)
    count("duplicate_titles", titled, ["title", "language"], "items have the title of another")
    return found


def _repeats(engine: DuckDB, table: ir.Table, keys: list[str]) -> tuple[int, int]:
    groups = table.group_by(keys).agg(rows=_.count())
    row = engine.fetch(groups.agg(rows=_.rows.sum(), groups=_.count()))[0]
    rows = row["rows"] or 0
    return rows, rows - row["groups"]
