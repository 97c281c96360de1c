"""What `belfry serve` stored: items, events, and slates as impressions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data import clean, schema
from pipelines.data.clean import PART
from pipelines.data.delimited import ROW
from pipelines.data.importing import Import, new_import
from pipelines.data.report import ImportReport
from pipelines.errors import BadInput
from serving.events import Store, StoreError
from serving.events.items import pages
from serving.events.tables import EVENTS, ITEMS, SLATES

_REPORTED = "the application reported the request's impressions itself"
_AFTER_EVENTS = 2**48  # the first row of slates
_BATCH = 4_096
Rows = Iterator[dict[str, Any]]


def import_store(
    where: Path | str, destination: Path | str, *, name: str | None = None, now: datetime | None = None
) -> ImportReport:
    """Write a store's items and events as a dataset, with every slate's items as `impression` events.

    A slate says what was recommended, not what was seen: where the application has sent `impression` events of a
    request, they stand for the slate. A slate's impressions carry its request_id, position, variant, device and the
    propensity with which each was shown there: 1.0, since the gateway draws nothing at random.

    `slates.parquet` says of each request_id which model, version, variant or fallback answered it, so that impressions
    of one can be told from those of another.

    Args:
        where: A store's folder or URL.
        destination: The dataset folder to make, or to replace if it is a dataset.
        name: Of the dataset; the destination's by default.
        now: Later events are dropped. The wall clock by default.

    Raises:
        BadInput: The store cannot be read, it has no event or no item, or the destination cannot be written.

    Example:
        >>> from pipelines import Dataset, import_store
        >>> report = import_store("store", "of-store")
        >>> Dataset.open("of-store").info.items
        250
    """
    destination = Path(destination)
    try:
        with Store(where, create=False) as store, new_import(destination) as job:
            stored = _write(job, schema.ITEMS, _items(store))
            items = clean.items(job.engine, _part(job, stored, "items"), job.report)
            raw = _with_slates(job, store)
            drops = {_REPORTED: raw.reported.fill_null(False)}
            events = clean.events(job.engine, raw, job.report, now, drops=drops)
            clean.note_unknown(job.engine, events, items, job.report, "item is not in the store")
            _write_slates(store, job.draft / "slates.parquet")
            job.finish(items=items, events=events, name=name or destination.resolve().name, source="a serving store")
            return job.report
    except StoreError as error:
        raise BadInput(str(error)) from None


def _items(store: Store) -> Rows:
    for page in pages(store, ITEMS, 500):
        for row in page:
            yield row | {"tags": None if row["tags"] is None else json.loads(row["tags"])}


def _events(store: Store) -> Rows:
    for page in pages(store, EVENTS):
        yield from page


def _slates(store: Store) -> Rows:
    for page in pages(store, SLATES):
        for slate in page:
            shared = {column: slate[column] for column in ("user_id", "at", "request_id", "variant", "device")}
            for item_id, _, position, propensity, *_ in json.loads(slate["items"]):
                event_id = f"{slate['request_id']}/{position}"
                shown = {"event_id": event_id, "item_id": item_id, "position": position, "propensity": propensity}
                yield shared | shown | {"kind": "impression"}


def _write_slates(store: Store, path: Path) -> None:
    """Which model or fallback answered each request; no file where there is none."""
    with contextlib.ExitStack() as opened:
        writer = None
        for page in pages(store, SLATES):
            if writer is None:
                writer = opened.enter_context(pq.ParquetWriter(path, schema.SLATES, compression="zstd"))
            arrays = [_array([row[field.name] for row in page], field.type) for field in schema.SLATES]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema.SLATES))


def _with_slates(job: Import, store: Store) -> ir.Table:
    """Events, and the slates' impressions after them; `reported` says which of these the events make needless."""
    events = _part(job, _write(job, schema.EVENTS, _events(store)), "events")
    slates = _part(job, _write(job, schema.EVENTS, _slates(store), first_row=_AFTER_EVENTS), "slates")
    told = events.filter(events.kind == "impression").select("request_id").distinct().mutate(reported=True)
    events = events.mutate(reported=ibis.literal(False))
    slates = slates.left_join(told, "request_id").select(*events.columns)
    return job.engine.materialise(events.union(slates))


def _part(job: Import, raw: Path, name: str) -> ir.Table:
    return job.engine.read(raw).mutate(**{PART: ibis.literal(name)})


def _write(job: Import, columns: pa.Schema, rows: Rows, *, first_row: int = 1) -> Path:
    """Rows of the store in a file that the engine reads, numbered in their order."""
    path = job.engine.new_file()
    expected = pa.schema([pa.field(ROW, pa.int64()), *columns])
    with pq.ParquetWriter(path, expected) as writer:
        for batch in _batches(rows, _BATCH):
            values = {name: [row.get(name) for row in batch] for name in columns.names}
            values[ROW] = list(range(first_row, first_row + len(batch)))
            first_row += len(batch)
            arrays = [_array(values[field.name], field.type) for field in expected]
            writer.write_table(pa.Table.from_arrays(arrays, schema=expected))
    return path


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    # Microseconds are what a timestamp is made of.
    return pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)


def _batches(rows: Rows, size: int) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
