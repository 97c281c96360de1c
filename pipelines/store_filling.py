"""From a dataset folder into a store, so that what a model was trained on can be served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data import schema
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.progress import track
from pipelines.result import Result
from serving.events import Store, StoreError
from serving.events.items import put_items
from serving.events.log import ignoring_known
from serving.events.tables import EVENTS

_ITEMS, _EVENTS = 1_000, 20_000


def fill_store(dataset: Dataset, where: Path | str) -> Result:
    """Put a dataset's items and append its events; events that the store has already are passed over.

    Items that the API has put or removed stay as they are: a dataset may be older than that.
    Users' own columns (language, segment) are not stored: a request says its language.

    Returns:
        `items` put, `events` read and `new_events` among them.

    Raises:
        BadInput: The store cannot be opened or written. What was written until then stays, and may be sent again.

    Args:
        dataset: What is put.
        where: A store's folder or URL; made where there is none.

    Example:
        >>> from pipelines import Dataset, fill_store
        >>> done = fill_store(Dataset.open("data"), "store")
        >>> done["items"], done["events"] == done["new_events"]
        (250, True)
    """
    done = {"items": 0, "events": 0, "new_events": 0}
    try:
        with Store(where) as store:
            for rows in _rows(dataset.items, schema.ITEMS, _ITEMS, "items"):
                put_items(store, rows, None)
                done["items"] += len(rows)
            for rows in _rows(dataset.events, schema.EVENTS, _EVENTS, "events"):
                done["new_events"] += append_events(store, rows)
                done["events"] += len(rows)
    except StoreError as error:
        raise BadInput(str(error)) from None
    return Result(done, filling_lines)


def filling_lines(done: dict[str, Any]) -> list[str]:
    """What was put, as plain text."""
    return [f"{done['items']:,} items put, {done['new_events']:,} of {done['events']:,} events were new"]


def append_events(store: Store, rows: list[dict[str, Any]]) -> int:
    """Append events, whose times are microseconds since 1970; how many the store did not have yet."""
    if not rows:
        return 0
    with store.writing() as connection:
        return len(connection.execute(ignoring_known(store, EVENTS).returning(EVENTS.c.event_id), rows).all())


def as_rows(batch: pa.RecordBatch, columns: pa.Schema) -> list[dict[str, Any]]:
    """Rows of a batch, with every column, and with times as the store keeps them: in microseconds."""
    names = [name for name in columns.names if name in batch.schema.names]
    arrays = [batch.column(name) for name in names]
    arrays = [each.cast(pa.int64()) if pa.types.is_timestamp(each.type) else each for each in arrays]
    return [dict.fromkeys(columns.names) | row for row in pa.RecordBatch.from_arrays(arrays, names=names).to_pylist()]


def _rows(path: Path, columns: pa.Schema, size: int, what: str) -> Any:
    with pq.ParquetFile(path) as file:
        there = [name for name in columns.names if name in file.schema_arrow.names]
        total = -(-file.metadata.num_rows // size)
        for batch in track(file.iter_batches(size, columns=there), what, total):
            yield as_rows(batch, columns)
