"""What computes Ibis expressions: DuckDB, with bounded memory and its files in one folder, or Spark.

Preparation steps are Ibis expressions; only this module knows that the embedded engine is DuckDB, and only
`pipelines.data.spark` knows Spark.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import BadInput

# DuckDB spills to disk beyond a share of the machine's memory; Arrow batches on their way in and out come on top.
_SHARE_OF_MEMORY = 0.25
_LEAST_MIB, _MOST_MIB = 1024, 3072
MAX_THREADS = 4


class Engine(Protocol):
    """What preparation asks of an engine. Strings compare by their UTF-8 bytes, and moments are in UTC."""

    def read_in_order(self, path: Path) -> ir.Table:
        """A Parquet file with its rows' numbers as `order`, int64 from 0."""

    def from_arrow(self, table: pa.Table) -> ir.Table:
        """A table in memory as one that the engine can join with."""

    def materialise(self, table: ir.Table) -> ir.Table:
        """Compute `table` once, where several expressions will read it."""

    def to_arrow(self, table: ir.Table) -> pa.Table:
        """A result in memory, in its order."""


OpenEngine: TypeAlias = Callable[[Path], contextlib.AbstractContextManager[Engine]]


def choose_engine(name: str, master: str | None) -> OpenEngine:
    """What a user named: `duckdb`, or `spark` with the URL of its master.

    Raises:
        BadInput: Another name, or a master where there is none.
    """
    if name == "duckdb" and master is None:
        return open_duckdb
    if name == "spark" and master is not None:
        from pipelines.data.spark import open_spark

        return partial(open_spark, master=master)
    if name in ("duckdb", "spark"):
        raise BadInput("--engine spark goes with --master URL, such as spark://host:7077 or local[4]; duckdb does not.")
    raise BadInput(f"--engine is duckdb or spark, not {name!r}.")


@dataclass
class DuckDB:
    """A connection and a folder for intermediate files. Both are gone when `open_duckdb` ends."""

    backend: ibis.backends.duckdb.Backend
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_file(self) -> Path:
        """A path in the working folder that nobody uses yet."""
        return self.folder / f"{next(self._numbers)}.parquet"

    def read(self, path: Path) -> ir.Table:
        """A Parquet file as a table."""
        return self.backend.read_parquet(path)

    def read_in_order(self, path: Path) -> ir.Table:
        """A Parquet file with its rows' numbers as `order`."""
        return self.backend.read_parquet(path, file_row_number=True).rename(order="file_row_number")

    def from_arrow(self, table: pa.Table) -> ir.Table:
        """A table in memory as one that the engine can join with."""
        return ibis.memtable(table)

    def to_arrow(self, table: ir.Table) -> pa.Table:
        """A result in memory, in its order."""
        return self.backend.to_pyarrow(table)

    def materialise(self, table: ir.Table) -> ir.Table:
        """Compute `table` once, where several expressions will read it."""
        return self.backend.create_table(f"step_{next(self._numbers)}", table, temp=True)

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
def open_duckdb(folder: Path) -> Iterator[DuckDB]:
    """Make `folder`, work in it, and remove it.

    Raises:
        BadInput: DuckDB ran out of disk or memory. Its other errors are defects and pass through.
    """
    folder.mkdir()
    limit = f"{_memory_limit_mib()}MiB"
    backend = ibis.duckdb.connect(
        folder / "work.duckdb",
        memory_limit=limit,
        threads=min(MAX_THREADS, os.cpu_count() or 1),
        temp_directory=str(folder / "spill"),
        # No surprises from the network: everything that is needed is linked into DuckDB.
        autoinstall_known_extensions=False,
    )
    try:
        yield DuckDB(backend, folder)
    except duckdb.OutOfMemoryException:
        raise BadInput(
            f"Preparing the data needs more than {limit} of memory, and there is no disk space to spill to:"
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


def _memory_limit_mib() -> int:
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    return int(min(max(_SHARE_OF_MEMORY * there, _LEAST_MIB), _MOST_MIB))
