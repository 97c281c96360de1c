"""DuckDB behind Ibis, with bounded memory and its files in one folder.

Preparation steps are Ibis expressions, so that a cluster can run the same ones on Spark; only this module knows
that the embedded engine is DuckDB.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import BadInput

# DuckDB spills to disk beyond this; Arrow batches on their way in and out come on top.
MEMORY_LIMIT = "1GB"
MAX_THREADS = 4


@dataclass
class Engine:
    """A connection and a folder for intermediate files. Both are gone when `open_engine` ends."""

    backend: ibis.backends.duckdb.Backend
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_file(self) -> Path:
        """A path in the working folder that nobody uses yet."""
        return self.folder / f"{next(self._numbers)}.parquet"

    def read(self, path: Path) -> ir.Table:
        """A Parquet file as a table."""
        return self.backend.read_parquet(path)

    def materialise(self, table: ir.Table) -> ir.Table:
        """Compute `table` once, where several expressions will read it."""
        return self.backend.create_table(f"step_{next(self._numbers)}", table)

    def fetch(self, table: ir.Table) -> list[dict[str, Any]]:
        """The rows of a small table."""
        rows: list[dict[str, Any]] = self.backend.to_pyarrow(table).to_pylist()
        return rows

    def batches(self, table: ir.Table, rows: int) -> Iterator[pa.RecordBatch]:
        """Stream a table that may be larger than memory, in its order and in batches of `rows`.

        By way of a file, since Ibis 12 asks DuckDB for a reader that DuckDB 2 no longer has.
        """
        path = self.new_file()
        self.backend.to_parquet(table, path, compression="lz4")
        try:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(rows)
        finally:
            path.unlink()


@contextlib.contextmanager
def open_engine(folder: Path) -> Iterator[Engine]:
    """Make `folder`, work in it, and remove it.

    Raises:
        BadInput: DuckDB ran out of disk or memory. Its other errors are defects and pass through.
    """
    folder.mkdir()
    backend = ibis.duckdb.connect(
        folder / "work.duckdb",
        memory_limit=MEMORY_LIMIT,
        threads=min(MAX_THREADS, os.cpu_count() or 1),
        temp_directory=str(folder / "spill"),
        # No surprises from the network: everything that is needed is linked into DuckDB.
        autoinstall_known_extensions=False,
    )
    try:
        yield Engine(backend, folder)
    except duckdb.OutOfMemoryException:
        raise BadInput(
            f"Preparing the data needs more than {MEMORY_LIMIT} of memory, and there is no disk space to spill to:"
            " free some disk space, or import a part."
        ) from None
    except (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException) as error:
        # With one user and no concurrent writes, a transaction fails for the disk's reasons only.
        if "No space left" in str(error):
            raise BadInput("The disk is full: free some disk space, or import into another place.") from None
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"The working files could not be written ({reason}): check the disk.") from None
    finally:
        backend.disconnect()
        shutil.rmtree(folder, ignore_errors=True)
