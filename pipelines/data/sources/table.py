"""Any CSV or Parquet file of events, with a mapping of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import ibis
import ibis.expr.types as ir

from pipelines.data import clean, schema
from pipelines.data.clean import PART
from pipelines.data.delimited import MENDED, ROW
from pipelines.data.images import ImageReader
from pipelines.data.importing import Import, new_import
from pipelines.data.report import ImportReport
from pipelines.data.table_file import TableFile, open_table
from pipelines.errors import BadInput

_EVENTS, _ITEMS, _USERS = schema.EVENTS.names, schema.ITEMS.names, schema.USERS.names
_MENDED = "bytes that are not UTF-8, replaced"
_NO_CLOCK = "no column for at: the order of the rows is the clock"
_PART_OF_EVENTS = "items (from {})"
_RESPELT = "{} spelt as the events spell it (1430 and 1430.0)"
_MAYBE_REPEATS = "same as an earlier row, which without a time may be a second visit"


def import_table(
    events: Path | str,
    destination: Path | str,
    *,
    items: Path | str | None = None,
    users: Path | str | None = None,
    columns: Mapping[str, str] = {},
    kind: str = "click",
    language: str | None = None,
    name: str | None = None,
    now: datetime | None = None,
) -> ImportReport:
    """Import a file of events and, where there are some, files of items and users.

    Columns that are called as in `schema` are found by themselves, the others through `columns`. Needed are user_id
    and item_id. Ids are text, exactly as the events file writes them: 1430.0 stays 1430.0. If the items or users file
    writes whole numbers without .0 where the events file has it, or the other way round, the events file decides, and
    the report says so.

    `at` may be a timestamp, an ISO 8601 string, or seconds or milliseconds since 1970; without an offset it is UTC.
    Without such a column the row number is the clock, in seconds since 1970, and equal rows are kept, since they may be
    several visits; with it, a row that equals an earlier one is dropped.

    Without an items file, every item of an event becomes an item, with the first title, category and so on that the
    events file has for it. `tags` is a list, or text split at | ; and comma. `image` is bytes, or a path relative to
    the items file; paths out of its folder and URLs are not followed.

    Args:
        events: CSV or Parquet.
        destination: The dataset folder to make, or to replace if it is a dataset.
        items: CSV or Parquet.
        users: CSV or Parquet. Columns that are not in the schema are kept.
        columns: The name in the files for names of the schema, such as {"user_id": "visitor"}.
        kind: Of the events, if the file has no column for it.
        language: Of items that do not say theirs, as BCP 47.
        name: Of the dataset; the destination's by default.
        now: Later events are dropped. The wall clock by default.

    Raises:
        BadInput: A file or a needed column is missing or unusable, or the destination cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from pipelines import Dataset, import_table
        >>> rows = ["visitor,item_id,time", "u1,a1,2025-03-01T08:00Z", "u1,a2,2025-03-01T09:00Z"]
        >>> _ = Path("clicks.csv").write_text("\\n".join(rows))
        >>> print(import_table("clicks.csv", "of-clicks", columns={"user_id": "visitor", "at": "time"}))
        events (clicks.csv): 2 read, 2 kept, 0 dropped
        items (from clicks.csv): 2 read, 2 kept, 0 dropped
          kept 2 though: no title and no body
        >>> Dataset.open("of-clicks").info.users
        1
    """
    events, destination = Path(events), Path(destination)
    if kind not in schema.KINDS:
        raise BadInput(f"{kind!r} is not a kind of event: use one of {', '.join(schema.KINDS)}.")
    unknown = [ours for ours in columns if ours not in {*_EVENTS, *_ITEMS, *_USERS}]
    if unknown:
        known = ", ".join(dict.fromkeys([*_EVENTS, *_ITEMS, *_USERS]))
        raise BadInput(f"--map {unknown[0]}={columns[unknown[0]]}: there is no {unknown[0]} to map to, only {known}.")
    with new_import(destination) as job:
        source = _Source(job, columns)
        event_file = source.open(events, "events", [*_EVENTS, *([] if items else _ITEMS)])
        item_file = source.open(Path(items), "items", _ITEMS) if items else None
        user_file = source.open(Path(users), "users", None) if users else None
        source.check_mapping([file for file in (event_file, item_file, user_file) if file])
        checked = _events(source, event_file, kind, now)
        raw = _items(source, item_file, checked) if item_file else _items_of_events(source, event_file, checked)
        if language:
            raw = raw.mutate(language=ibis.coalesce(raw.language, ibis.literal(language)))
        kept = clean.items(job.engine, raw, job.report, notes=_item_notes(raw))
        item_part = item_file.part if item_file else _PART_OF_EVENTS.format(events.name)
        if item_file:
            clean.note_unknown(job.engine, checked, kept, job.report, "item has no row in the items file")
        job.finish(
            items=kept,
            events=checked,
            users=_users(source, user_file, checked) if user_file else None,
            name=name or destination.resolve().name,
            source=f"table {events.name}",
            clock="utc" if source.column(event_file, "at") is not None else "row order",
            transform_items=_images(source, item_file or event_file, item_part),
        )
    return job.report


@dataclass(frozen=True)
class _Source:
    """The files of one import, and how their columns are called."""

    job: Import
    mapping: Mapping[str, str]

    def open(self, path: Path, role: str, names: list[str] | None) -> TableFile:
        """Open a file, of which only the columns `names` are wanted; None means all."""
        image = self.mapping.get("image", "image")
        wanted = None if names is None else {*names, *self.mapping.values()}
        return open_table(
            self.job.engine,
            path,
            f"{role} ({path.name})",
            self.job.report,
            is_wanted=lambda name: wanted is None or name in wanted,
            is_image=lambda name: name == image,
        )

    def column(self, file: TableFile, ours: str) -> ir.Value | None:
        """Our column in a file: under its mapped name if the file has that, else under our own."""
        theirs = self.mapping.get(ours, ours)
        name = theirs if theirs in file.columns else ours
        column = file.find(name)
        if column is not None and column.type().is_array() and ours != "tags":
            raise BadInput(f"{file.path}: column {name} is a list, which cannot be {ours}.")
        return column

    def key(self, file: TableFile, ours: str) -> ir.StringValue:
        """A needed id as text.

        Raises:
            BadInput: The file does not have it.
        """
        column = self.column(file, ours)
        if column is None:
            raise BadInput(
                f"{file.path} has no column {self.mapping.get(ours, ours)} (it has: {file.names()}):"
                f" name the right one with --map {ours}=COLUMN."
            )
        return column.cast("string")

    def check_mapping(self, files: list[TableFile]) -> None:
        """Refuse a mapping that no file can follow: it is a typing mistake, and the column would be missed."""
        for ours, theirs in self.mapping.items():
            if not any(theirs in file.header for file in files):
                raise BadInput(
                    f"--map {ours}={theirs}: {files[0].path} has no column {theirs} (it has: {files[0].names()})."
                )


def _events(source: _Source, file: TableFile, kind: str, now: datetime | None) -> ir.Table:
    found = {name: column for name in _EVENTS if (column := source.column(file, name)) is not None}
    row = file.table[ROW]
    values = {name: _number_or_text(column) for name, column in found.items()}
    values |= {name: source.key(file, name) for name in ("user_id", "item_id")}
    values["event_id"] = "row/" + row.cast("string")
    if "event_id" in found:
        values["event_id"] = ibis.coalesce(clean.text(found["event_id"]), values["event_id"])
    values["kind"] = clean.text(found["kind"]).strip().lower() if "kind" in found else ibis.literal(kind)
    has_clock = "at" in found
    values["at"] = clean.moment(found["at"] if has_clock else row.cast("int64"))
    raw = file.table.select(ROW, PART, MENDED, **values)
    job = source.job
    notes = {_MENDED: raw[MENDED]} | ({} if has_clock else {_NO_CLOCK: ibis.literal(True)})
    has_own_ids = "event_id" in found
    same = [name for name in values if name != "event_id"] if has_clock and not has_own_ids else []
    kept = clean.events(job.engine, raw, job.report, now, same_event=same, has_own_ids=has_own_ids, notes=notes)
    if not has_clock:
        repeats = kept.group_by("user_id", "item_id", "kind").agg(more=ibis._.count() - 1)
        (total,) = job.engine.fetch(repeats.agg(rows=ibis._.more.sum().fill_null(0)))
        job.report.table(file.part).note(_MAYBE_REPEATS, total["rows"])
    return kept


def _number_or_text(column: ir.Value) -> ir.Value:
    return column if column.type().is_numeric() else column.cast("string")


def _item_columns(source: _Source, file: TableFile) -> ir.Table:
    """The columns of items in a file, and what to note about them."""
    values: dict[str, ir.Value] = {"item_id": source.key(file, "item_id")}
    for name in ("title", "body", "language", "category"):
        column = source.column(file, name)
        values[name] = ibis.null("string") if column is None else clean.text(column)
    tags = source.column(file, "tags")
    values["tags"] = ibis.null("array<string>") if tags is None else _tags(tags)
    image = source.column(file, "image")
    values["image"] = ibis.null("string") if image is None else image.cast("string")
    for name in ("published_at", "removed_at"):
        column = source.column(file, name)
        values[name] = ibis.null("timestamp('UTC', 6)") if column is None else clean.moment(column)
        is_bad = ibis.literal(False) if column is None else clean.text(column).notnull() & values[name].isnull()
        values[f"bad_{name}"] = is_bad
    return file.table.select(ROW, PART, MENDED, **values)


def _item_notes(raw: ir.Table) -> clean.Notes:
    notes: dict[str, ir.BooleanValue] = {_MENDED: raw[MENDED]}
    for name in ("published_at", "removed_at"):
        notes[f"{name} is not a time; set to null"] = raw[f"bad_{name}"]
    if "respelt" in raw.columns:
        notes[_RESPELT.format("item_id")] = raw.respelt
    return notes


def _tags(column: ir.Value) -> ir.ArrayValue:
    """Tags from a list, or from text split at | ; and comma, with or without the brackets of a printed list."""
    if not column.type().is_array():
        words = column.cast("string").re_replace(r"^\s*\[|\]\s*$", "").re_replace(r"[|;,]", "|").split("|")
        column = words.map(lambda word: word.re_replace(r"^[\s'\"]+|[\s'\"]+$", ""))
    return column.filter(lambda word: word.notnull() & (word.strip() != ""))


def _items(source: _Source, file: TableFile, events: ir.Table) -> ir.Table:
    return _spelt_alike(source.job, events, _item_columns(source, file), "item_id")


def _items_of_events(source: _Source, file: TableFile, events: ir.Table) -> ir.Table:
    """Items of the kept events, each with the first value that the file has for it."""
    raw = _item_columns(source, file)
    raw = raw.semi_join(events.select(ROW), ROW)
    names = [name for name in _ITEMS if name != "item_id"]
    firsts = {name: raw[name].argmin(raw[ROW], where=raw[name].notnull()) for name in names}
    flags = {f"bad_{name}": raw[f"bad_{name}"].any() for name in ("published_at", "removed_at")}
    found = raw.group_by("item_id").agg(**{ROW: raw[ROW].min(), MENDED: raw[MENDED].any()}, **firsts, **flags)
    return found.mutate(**{PART: ibis.literal(_PART_OF_EVENTS.format(file.path.name))})


def _users(source: _Source, file: TableFile, events: ir.Table) -> ir.Table:
    values: dict[str, ir.Value] = {"user_id": source.key(file, "user_id")}
    for name in ("language", "segment"):
        column = source.column(file, name)
        values[name] = ibis.null("string") if column is None else clean.text(column)
    created = source.column(file, "created_at")
    values["created_at"] = ibis.null("timestamp('UTC', 6)") if created is None else clean.moment(created)
    taken = {*_USERS, ROW, PART, MENDED, "respelt"}
    mapped = {source.mapping.get(name, name) for name in _USERS}
    count = source.job.report.table(file.part)
    for name in file.columns:
        if name in mapped or not name:
            continue
        # Engines do not tell names apart by case.
        if name.lower() in taken:
            count.note(f"column {name} is left out, since its name is taken")
            continue
        taken.add(name.lower())
        values[name] = file.table[file.columns[name]]
    raw = _spelt_alike(source.job, events, file.table.select(ROW, PART, MENDED, **values), "user_id")
    notes = {_MENDED: raw[MENDED], _RESPELT.format("user_id"): raw.respelt}
    return clean.users(source.job.engine, raw, source.job.report, notes=notes).drop(MENDED, "respelt")


def _spelt_alike(job: Import, events: ir.Table, raw: ir.Table, key: str) -> ir.Table:
    """Ids in another file, spelt as the events spell them.

    pandas writes whole numbers as 1430.0 in a column that has gaps. If one file has only such numbers and the other
    only 1430, they mean the same, and without this no item would be found.
    """
    whole, decimal = r"^-?\d+$", r"^-?\d+\.0$"

    def forms(table: ir.Table) -> tuple[bool, bool]:
        ids = table.agg(whole=table[key].re_search(whole).any(), decimal=table[key].re_search(decimal).any())
        (found,) = job.engine.fetch(ids)
        return bool(found["whole"]), bool(found["decimal"])

    match forms(events), forms(raw):
        case (False, True), (True, False):
            is_other, spelling = raw[key].re_search(whole), raw[key] + ".0"
        case (True, False), (False, True):
            is_other, spelling = raw[key].re_search(decimal), raw[key].re_replace(r"\.0$", "")
        case _:
            return raw.mutate(respelt=ibis.literal(False))
    is_other = is_other.fill_null(False)
    return raw.mutate(**{key: ibis.ifelse(is_other, spelling, raw[key]), "respelt": is_other})


def _images(source: _Source, file: TableFile, part: str) -> ImageReader | None:
    image = source.column(file, "image")
    if image is None:
        return None
    return ImageReader(file.images, source.job.report.table(part))
