"""What every import checks, as Ibis expressions: ids, kinds, times, repeats and ranges.

Each function takes a raw table, counts every row of it as kept or as dropped for one reason, and returns the kept
rows with the columns of the schema. Nothing is fatal here: a table without one good row comes back empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

from pipelines.data import schema
from pipelines.data.delimited import ROW
from pipelines.data.engine import DuckDB
from pipelines.data.report import ImportReport

# The column that says under which name of the report a row is counted.
PART = "_part"

MISSING_ID = "{} is missing (empty, null, none or nan)"
UNREADABLE_ID = "{} holds bytes or control characters that are not text"
UNKNOWN_KIND = "kind is not one of " + ", ".join(schema.KINDS)
NO_TIME = "at is missing or not a time"
FUTURE = "at is later than now"
SAME_EVENT_ID = "event_id of an earlier row"
SAME_ROW = "same as an earlier row"
SAME_ID = "{} of an earlier row"

# What databases and pandas write for "nothing". Nobody's id, or a bug at the source.
_NOTHING = ("", "null", "none", "nan", "<na>")
# Control characters, line ends and U+FFFD: answers are written as lines of tab-separated ids.
_NO_TEXT = "[\\x00-\\x1f\\x7f\u0085\u2028\u2029\ufffd]"
_FIRST_TIME = datetime(1, 1, 2, tzinfo=UTC)
_LAST_TIME = datetime(9999, 12, 30, tzinfo=UTC)

Notes = Mapping[str, ir.BooleanValue]


def type_of(field: pa.Field) -> dt.DataType:
    """The Ibis type of a column of the schema."""
    return dt.DataType.from_pyarrow(field.type)


def text(value: ir.Value) -> ir.StringValue:
    """A value as text; empty or blank text becomes null."""
    string = value.cast("string")
    return ibis.ifelse(string.strip() == "", ibis.null("string"), string)


def moment(value: ir.Value) -> ir.TimestampValue:
    """A time in UTC from a timestamp, a date, an ISO 8601 string, or seconds or milliseconds since 1970.

    Seconds and milliseconds are told apart by size: 1e11 is the year 5138 in seconds and 1973 in milliseconds.
    Microseconds (from 1e14) and nanoseconds (from 1e17) are told apart likewise. A time without an offset is UTC.
    Null where the value is no time of the years 1 to 9999.
    """
    kind = value.type()
    if kind.is_string():
        number = ibis.ifelse(value.re_search(r"^\s*-?\d+(\.\d+)?([eE]\+?\d+)?\s*$"), value, ibis.null("string"))
        time = ibis.coalesce(_since_1970(number.try_cast("float64")), value.try_cast("timestamp('UTC', 6)"))
    elif kind.is_numeric() and not kind.is_boolean():
        time = _since_1970(value.try_cast("float64"))
    elif kind.is_timestamp() or kind.is_date():
        time = value.try_cast("timestamp('UTC', 6)")
    else:
        return ibis.null("timestamp('UTC', 6)")
    return ibis.ifelse(time.between(_FIRST_TIME, _LAST_TIME), time, ibis.null("timestamp('UTC', 6)"))


def _since_1970(number: ir.FloatingValue) -> ir.TimestampValue:
    size = number.abs()
    milliseconds = ibis.cases(
        (size < 1e11, number * 1e3),
        (size < 1e14, number),
        (size < 1e17, number / 1e3),
        (size < 1e20, number / 1e6),
    )
    return milliseconds.round().cast("int64").as_timestamp("ms").cast("timestamp('UTC', 6)")


def events(
    engine: DuckDB,
    raw: ir.Table,
    report: ImportReport,
    now: datetime | None,
    *,
    same_event: Sequence[str] = (),
    has_own_ids: bool = True,
    drops: Notes | None = None,
    notes: Notes | None = None,
) -> ir.Table:
    """Check events.

    Args:
        engine: Where intermediate results are kept.
        raw: `ROW` (unique, in source order), `PART`, event_id, user_id, item_id, kind, at (from `moment`) and any other
            column of the schema, as numbers or as text.
        report: Gets the counts, under the names in `PART`.
        now: Later events are dropped. The wall clock by default.
        same_event: Columns that make two rows the same event. None, and no event is dropped as a repeat.
        has_own_ids: Whether event_id comes from the source, so that it may repeat.
        drops: Further reasons to drop a row, as conditions over `raw`.
        notes: What to count among the kept rows, as conditions over `raw`.

    Returns:
        The columns of `schema.EVENTS`, and `ROW` and `PART`.
    """
    now = now or datetime.now(UTC)
    now = now.replace(tzinfo=UTC) if now.tzinfo is None else now
    numbers, number_notes = _event_numbers(raw)
    faults: dict[str, ir.BooleanValue] = {}
    for name in ("user_id", "item_id", "event_id"):
        faults |= id_faults(raw, name)
    if "request_id" in raw.columns:
        faults[UNREADABLE_ID.format("request_id")] = raw.request_id.re_search(_NO_TEXT)
    faults[UNKNOWN_KIND] = ~raw.kind.isin(schema.KINDS).fill_null(False)
    faults[NO_TIME] = raw["at"].isnull()
    faults[FUTURE] = raw["at"] > now
    faults |= dict(drops or {})
    columns: dict[str, ir.Value] = {ROW: raw[ROW], PART: raw[PART]}
    for field in schema.EVENTS:
        if field.name in numbers:
            columns[field.name] = numbers[field.name].cast(type_of(field))
        elif field.name not in raw.columns:
            columns[field.name] = ibis.null(type_of(field))
        elif field.nullable:
            columns[field.name] = text(raw[field.name])
        else:
            columns[field.name] = raw[field.name]
    repeats: dict[str, Sequence[str]] = {}
    if has_own_ids:
        repeats[SAME_EVENT_ID] = ["event_id"]
    if same_event:
        repeats[SAME_ROW] = same_event
    return sift(engine, raw, columns, faults, repeats, number_notes | dict(notes or {}), report)


def items(engine: DuckDB, raw: ir.Table, report: ImportReport, *, notes: Notes | None = None) -> ir.Table:
    """Check items; of several rows with one item_id the first is kept. For the arguments see `events`."""
    notes = {"no title and no body": text(raw.title).isnull() & text(raw.body).isnull()} | dict(notes or {})
    return _entities(engine, raw, report, schema.ITEMS, "item_id", notes)


def users(engine: DuckDB, raw: ir.Table, report: ImportReport, *, notes: Notes | None = None) -> ir.Table:
    """Check users; of several rows with one user_id the first is kept. Columns that are not in the schema stay."""
    return _entities(engine, raw, report, schema.USERS, "user_id", notes or {})


def _entities(
    engine: DuckDB, raw: ir.Table, report: ImportReport, expected: pa.Schema, key: str, notes: Notes
) -> ir.Table:
    columns: dict[str, ir.Value] = {ROW: raw[ROW], PART: raw[PART]}
    for field in expected:
        value = raw[field.name] if field.name in raw.columns else ibis.null(type_of(field))
        columns[field.name] = text(value) if field.nullable and pa.types.is_string(field.type) else value
    free = [name for name in raw.columns if name not in columns and expected is schema.USERS]
    columns |= {name: raw[name] for name in free}
    return sift(engine, raw, columns, id_faults(raw, key), {SAME_ID.format(key): [key]}, notes, report)


def id_faults(raw: ir.Table, name: str) -> dict[str, ir.BooleanValue]:
    """The reasons to drop a row for an id of it."""
    value = raw[name]
    return {
        MISSING_ID.format(name): value.isnull() | value.strip().lower().isin(_NOTHING),
        UNREADABLE_ID.format(name): value.re_search(_NO_TEXT),
    }


def _event_numbers(raw: ir.Table) -> tuple[dict[str, ir.FloatingValue], dict[str, ir.BooleanValue]]:
    """The number columns, null where out of range, and notes that say so."""
    rules = {
        "position": (
            "must be a whole number from 0",
            lambda number: number.between(0, 2**31 - 1) & (number == number.round()),
        ),
        "dwell_seconds": ("must be from 0 and finite", lambda number: number.between(0, 1e9)),
        "scroll_depth": ("must be from 0 to 1", lambda number: number.between(0, 1)),
        "value": ("must be a finite number", lambda number: number.abs() < 1e30),
        "propensity": ("must be above 0 and up to 1", lambda number: (number > 0) & (number <= 1)),
    }
    numbers, notes = {}, {}
    for name, (rule, is_good) in rules.items():
        if name not in raw.columns:
            continue
        number = raw[name].try_cast("float64")
        good = is_good(number).fill_null(False)
        numbers[name] = ibis.ifelse(good, number, ibis.null("float64"))
        given = ~raw[name].cast("string").strip().lower().isin(_NOTHING)
        notes[f"{name} {rule}; set to null"] = given & ~good
    return numbers, notes


def sift(
    engine: DuckDB,
    raw: ir.Table,
    columns: Mapping[str, ir.Value],
    drops: Mapping[str, ir.BooleanValue],
    repeats: Mapping[str, Sequence[str]],
    notes: Notes,
    report: ImportReport,
) -> ir.Table:
    """Split `raw` into kept rows and counted drops. A row is dropped for its first reason only.

    Args:
        engine: Where intermediate results are kept.
        raw: The rows, with `ROW` and `PART`.
        columns: What a kept row consists of, as expressions over `raw`; `ROW` and `PART` among them.
        drops: Conditions over `raw`, by reason, in order.
        repeats: Names in `columns`, by reason: of the rows that agree in all of them only the first is kept.
        notes: What to count among the kept rows, as conditions over `raw`.
        report: Gets the counts.
    """
    reason = ibis.cases(*((fault.fill_null(False), why) for why, fault in drops.items()), else_=ibis.null("string"))
    flags = {f"note_{index}": flag.fill_null(False) for index, flag in enumerate(notes.values())}
    table = engine.materialise(raw.select(**columns, reason=reason, **flags))
    for why, keys in repeats.items():
        good = table.filter(table.reason.isnull()).select(ROW, *keys)
        place = ibis.row_number().over(group_by=list(keys), order_by=ROW)
        later = engine.materialise(
            good.mutate(place=place).filter(ibis._.place > 0).select(ROW, reason=ibis.literal(why))
        )
        if not engine.fetch(later.limit(1)):
            continue
        joined = table.left_join(later.rename(later_reason="reason"), ROW)
        table = joined.mutate(reason=ibis.coalesce(joined.reason, joined.later_reason)).select(*table.columns)
    kept = table.filter(table.reason.isnull())
    counts = table.group_by(PART, "reason").agg(rows=ibis._.count(), **{name: ibis._[name].sum() for name in flags})
    for row in engine.fetch(counts.order_by(PART, "reason")):
        count = report.table(row[PART])
        rows = row["rows"]
        count.read += rows
        if row["reason"] is not None:
            count.drop(row["reason"], rows)
            continue
        count.kept += rows
        for name, what in zip(flags, notes, strict=True):
            count.note(what, row[name])
    return kept.drop("reason", *flags)


def note_unknown(engine: DuckDB, events: ir.Table, items: ir.Table, report: ImportReport, what: str) -> None:
    """Count the events whose item is not among the items. They stay: models treat such an item as unknown."""
    for row in engine.fetch(events.anti_join(items, "item_id").group_by(PART).agg(rows=ibis._.count())):
        report.table(row[PART]).note(what, row["rows"])
