"""What every column holds: how much of it is missing, how it is distributed, and what cannot be."""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from pipelines.data import schema
from pipelines.data.audit.findings import Checks, percent, share
from pipelines.data.audit.tables import Tables
from pipelines.data.engine import DuckDB

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_BINS = 20
_TOP = 12
_LONGEST_DWELL = 86_400.0
# A column is missing only where it would be: nobody dwells on an impression.
_READ = ("click", "read")
_EXPECTED: dict[str, tuple[str, ...]] = {
    "dwell_seconds": _READ,
    "scroll_depth": _READ,
    "position": ("impression",),
    "propensity": ("impression",),
    "request_id": ("impression",),
    "variant": ("impression",),
    "value": ("rating",),
}
_OFTEN_NULL = ("removed_at",)  # most items stay
_MEASURES = ("dwell_seconds", "scroll_depth", "at", "published_at", "created_at")
_RANGES = {
    "position": (0, 2**31 - 1, "from 0"),
    "dwell_seconds": (0.0, _LONGEST_DWELL, "from 0 to a day"),
    "scroll_depth": (0.0, 1.0, "from 0 to 1"),
    "propensity": (1e-30, 1.0, "above 0 and up to 1"),
}
_FEWEST = 100  # rows from which a commonest value says something


def audit_columns(tables: Tables, checks: Checks) -> dict[str, Any]:
    """Describe and check the columns of events, items and users."""
    found: dict[str, Any] = {}
    for name, table, expected in (
        ("events", tables.source.drop("order"), schema.EVENTS),
        ("items", tables.items, schema.ITEMS),
        ("users", tables.users, schema.USERS),
    ):
        if table is None:
            continue
        columns = _describe(tables.engine, table)
        found[name] = columns
        _check(name, columns, expected, checks, tables.has_times)
    _check_ranges(found["events"], checks)
    kinds = found["events"]["kind"]
    strange = tables.engine.fetch(tables.source.filter(~_.kind.isin(schema.KINDS)).agg(rows=_.count()))[0]["rows"]
    unknown = share(strange, kinds["rows"])
    checks.add("unknown_kinds", unknown, f"{percent(unknown)} of the events are of an unknown kind", "kind")
    wanted = tables.engine.fetch(tables.facts.agg(any=_.positive.any()))[0]["any"]
    none = "an event says that a user wanted an item" if wanted else "no event says that a user wanted an item"
    checks.add("no_positives", 0.0 if wanted else 1.0, none)
    return found


def _describe(engine: DuckDB, table: ir.Table) -> dict[str, dict[str, Any]]:
    measures: dict[str, ir.Value] = {"rows": table.count()}
    for name in table.columns:
        column, where = table[name], _where(table, name)
        measures[f"{name}:expected"] = table.count() if where is None else where.cast("int64").sum()
        nulls = column.isnull() if where is None else column.isnull() & where
        measures[f"{name}:missing"] = nulls.cast("int64").sum()
        measures[f"{name}:given"] = column.count()
        if column.type().is_numeric():
            finite = finite_only(column)
            measures |= {f"{name}:min": finite.min(), f"{name}:max": finite.max(), f"{name}:mean": finite.mean()}
            measures[f"{name}:quantiles"] = finite.quantile(list(_QUANTILES))
        elif column.type().is_timestamp():
            measures |= {f"{name}:min": column.min(), f"{name}:max": column.max()}
        if name in _RANGES:
            low, high, _text = _RANGES[name]
            measures[f"{name}:outside"] = (~column.between(low, high)).cast("int64").sum()
    row = engine.fetch(table.aggregate(**measures))[0]
    columns: dict[str, dict[str, Any]] = {}
    for name in table.columns:
        found = {key: row[f"{name}:{key}"] or 0 for key in ("expected", "missing", "given")} | {"rows": row["rows"]}
        if f"{name}:mean" in row:
            found |= {key: _number(row[f"{name}:{key}"]) for key in ("min", "mean", "max")}
            points = row[f"{name}:quantiles"] or [None] * len(_QUANTILES)
            found["quantiles"] = {str(at): _number(value) for at, value in zip(_QUANTILES, points, strict=True)}
            found["histogram"] = _histogram(engine, table[name], found)
        elif f"{name}:min" in row:
            found |= {key: value.isoformat() if (value := row[f"{name}:{key}"]) else None for key in ("min", "max")}
        if f"{name}:outside" in row:
            found["outside"] = row[f"{name}:outside"] or 0
        if found["given"] and not table[name].type().is_array() and not table[name].type().is_binary():
            found |= _common(engine, table, name)
        columns[name] = found
    return columns


def finite_only(column: ir.NumericValue) -> ir.FloatingValue:
    """A column of numbers, null where it is NaN or infinite, which no quantile, bin or mean can hold."""
    real = column.cast("float64")
    return ibis.ifelse(real.isnan() | real.isinf(), ibis.null("float64"), real)


def _where(table: ir.Table, name: str) -> ir.BooleanValue | None:
    if name not in _EXPECTED or "kind" not in table.columns:
        return None
    return table.kind.isin(_EXPECTED[name]).fill_null(False)


def _common(engine: DuckDB, table: ir.Table, name: str) -> dict[str, Any]:
    """How many values there are, and the commonest; ids and texts are named by nothing else."""
    if name in ("event_id", "body"):
        return {}
    values = table.filter(table[name].notnull()).group_by(value=table[name].cast("string")).agg(rows=_.count())
    few = engine.fetch(values.order_by(ibis.desc("rows"), "value").limit(_TOP))
    distinct = engine.fetch(values.agg(distinct=_.count()))[0]["distinct"]
    top = [{"value": str(each["value"])[:80], "rows": each["rows"]} for each in few]
    return {"distinct": distinct, "top": top}


def _histogram(engine: DuckDB, column: ir.NumericValue, found: dict[str, Any]) -> list[dict[str, float]]:
    """Counts in bins of one width up to the 99 % quantile; the last bin also has what is above."""
    low, high = found["min"], found["quantiles"]["0.99"]
    if low is None or high is None or high <= low:
        return []
    width = (high - low) / _BINS
    place = ((finite_only(column) - low) / width).floor().clip(0, _BINS - 1).cast("int64")
    rows = engine.fetch(place.name("bin").as_table().filter(_.bin.notnull()).group_by("bin").agg(rows=_.count()))
    counts = {row["bin"]: row["rows"] for row in rows}
    return [{"from": low + width * each, "rows": counts.get(each, 0)} for each in range(_BINS)]


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _check(
    table: str, columns: dict[str, dict[str, Any]], expected: pa.Schema, checks: Checks, has_times: bool
) -> None:
    for field in expected:
        column = columns.get(field.name)
        if column is None or not column["expected"]:
            continue
        name = f"{table}.{field.name}"
        missing = share(column["missing"], column["expected"])
        if not field.nullable:
            text = f"{percent(missing)} of the {table} have no {field.name}"
            checks.add("missing_ids", missing, text, name)
        elif column["given"] and field.name not in _OFTEN_NULL:
            among = " that should have one" if field.name in _EXPECTED and table == "events" else ""
            text = f"{percent(missing)} of the {table}{among} have no {field.name}"
            checks.add("missing_values", missing, text, name)
        timeless = field.name == "at" and not has_times
        if field.name in _MEASURES and not timeless and column["given"] >= _FEWEST and column.get("top"):
            common = share(column["top"][0]["rows"], column["given"])
            text = f"{percent(common)} of all known {field.name} are {column['top'][0]['value']}"
            checks.add("commonest_value", common, text, name)


def _check_ranges(events: dict[str, dict[str, Any]], checks: Checks) -> None:
    for name, (_low, _high, rule) in _RANGES.items():
        outside = share(events[name]["outside"], events[name]["given"])
        text = f"{percent(outside)} of all known {name} are not {rule}"
        checks.add("out_of_range", outside, text, f"events.{name}")
