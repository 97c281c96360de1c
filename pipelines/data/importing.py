"""The frame of every import: a draft folder, an engine, and at the end three sorted Parquet files with dataset.json."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data import schema
from pipelines.data.clean import PART
from pipelines.data.dataset import DatasetInfo, new_dataset, write_info
from pipelines.data.delimited import ROW
from pipelines.data.engine import DuckDB, open_duckdb
from pipelines.data.report import ImportReport
from pipelines.errors import BadInput
from pipelines.progress import stages

_ROW_GROUP = 131_072
_BATCH = 16_384
_IMAGE_ROW_GROUP = 64  # images are large, and a row group is held in memory
_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNUSABLE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EFBIG,
    errno.EIO,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}

Transform = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass
class Import:
    """An import under way."""

    draft: Path
    engine: DuckDB
    report: ImportReport = field(default_factory=ImportReport)

    def finish(
        self,
        *,
        items: ir.Table,
        events: ir.Table,
        users: ir.Table | None = None,
        name: str,
        source: str,
        licence: str = "",
        clock: Literal["utc", "row order"] = "utc",
        transform_items: Transform | None = None,
    ) -> None:
        """Write cleaned tables and dataset.json.

        Args:
            items: From `clean.items`; written in source order.
            events: From `clean.events`; written by time, then in source order.
            users: From `clean.users`; written in source order.
            name: Of the dataset.
            source: Where it comes from, in words.
            licence: What may be done with it, in words.
            clock: What `at` means.
            transform_items: Changes every batch of items on its way to disk.

        Raises:
            BadInput: There is no event or no item left.
        """
        with stages("import", {"checking": 1, "items": 3, "events": 5, "users": 1}) as begin:
            begin("checking")
            self.report.check()
            self._require(events, "event")
            self._require(items, "item")
            begin("items")
            write_table(self.engine, items.order_by(ROW), self.draft / "items.parquet", schema.ITEMS, transform_items)
            begin("events")
            write_table(self.engine, events.order_by("at", ROW), self.draft / "events.parquet", schema.EVENTS)
            if users is not None:
                begin("users")
                write_table(self.engine, users.order_by(ROW), self.draft / "users.parquet", _with_free_columns(users))
        (summary,) = self.engine.fetch(
            events.agg(
                events=ibis._.count(),
                users=ibis._.user_id.nunique(),
                first_at=ibis._["at"].min(),
                last_at=ibis._["at"].max(),
            )
        )
        languages = self.engine.fetch(items.filter(items.language.notnull()).select("language").distinct())
        info = DatasetInfo.model_validate(
            {
                "name": name,
                "source": source,
                "licence": licence,
                "clock": clock,
                "items": self.engine.fetch(items.agg(rows=ibis._.count()))[0]["rows"],
                "languages": sorted(str(row["language"]) for row in languages),
                "report": self.report.as_dict(),
                **summary,
            }
        )
        write_info(self.draft, info)

    def _require(self, table: ir.Table, what: str) -> None:
        if self.engine.fetch(table.limit(1)):
            return
        dropped: Counter[str] = Counter()
        for count in self.report.tables.values():
            dropped += count.dropped
        most = "; ".join(f"{rows:,} times: {reason}" for reason, rows in dropped.most_common(3))
        raise BadInput(f"Not one usable {what} is left of the input ({most or 'it has no rows'}).")


@contextlib.contextmanager
def new_import(destination: Path) -> Iterator[Import]:
    """Yield an import into `destination`, which is whole at the end, or as it was before.

    Raises:
        BadInput: The destination cannot be used, or the machine ran out of disk or memory.
    """
    try:
        with new_dataset(destination) as draft, open_duckdb(draft / ".work") as engine:
            yield Import(draft, engine)
    except OSError as error:
        if error.errno in _FULL:
            raise BadInput(f"The disk of {destination} is full: free some disk space, or import elsewhere.") from None
        if error.errno in _UNUSABLE:
            reason = os.strerror(error.errno)
            raise BadInput(f"{destination} could not be written ({reason}): give another destination.") from None
        raise


def write_table(
    engine: DuckDB, table: ir.Table, path: Path, expected: pa.Schema, transform: Transform | None = None
) -> None:
    """Stream a table to Parquet with exactly the expected schema; the same rows give the same bytes.

    Row groups are cut by number of rows, not by how the engine happens to deliver them.
    """
    table = table.select(*expected.names)
    group = _ROW_GROUP if transform is None else _IMAGE_ROW_GROUP
    with pq.ParquetWriter(path, expected, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for batch in engine.batches(table, min(group, _BATCH)):
            arrays = [column.cast(field.type) for column, field in zip(batch.columns, expected, strict=True)]
            batch = pa.RecordBatch.from_arrays(arrays, schema=expected)
            batch = transform(batch) if transform else batch
            while batch.num_rows:
                head = batch.slice(0, group - rows)
                waiting.append(head)
                rows += head.num_rows
                batch = batch.slice(head.num_rows)
                if rows == group:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting, rows = [], 0
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))


def _with_free_columns(users: ir.Table) -> pa.Schema:
    known = set(schema.USERS.names) | {ROW, PART}
    found = users.schema().to_pyarrow()
    return pa.schema([*schema.USERS, *(found.field(name) for name in users.columns if name not in known)])
