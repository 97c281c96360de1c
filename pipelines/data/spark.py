"""Spark behind Ibis: the same preparation on a cluster.

Of the work, the driver sees results only. The workers read the dataset's files themselves, so that its folder must be
under the same path on all machines. Memory, cores and whatever else a cluster wants are Spark's own settings
(`spark-defaults.conf` in `SPARK_CONF_DIR`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.functions import col

from pipelines.errors import BadInput

_CONNECT_SECONDS = 5
_PARTITIONS = "spark.sql.shuffle.partitions"
_LEAST_PARTITIONS = 4
_BYTES_A_PARTITION = 16_000_000  # of a Parquet file, which is about ten times as much in Spark's rows
# Errors, and that a cluster has no worker to spare: else a job would wait without a word.
_LOGGING = """
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = Spark: %m%n
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = error
logger.scheduler.name = org.apache.spark.scheduler.TaskSchedulerImpl
logger.scheduler.level = warn
"""


@dataclass
class Spark:
    """A session, and Ibis over it."""

    session: SparkSession
    backend: ibis.BaseBackend
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def read_in_order(self, path: Path) -> ir.Table:
        """A Parquet file with its rows' numbers as `order`."""
        if not self.session.sparkContext.getConf().contains(_PARTITIONS):
            # Spark's default of 200 is many times the work itself where a log is small, and too few where it is large.
            self.session.conf.set(_PARTITIONS, max(_LEAST_PARTITIONS, path.stat().st_size // _BYTES_A_PARTITION))
        file = self.session.read.parquet(path.resolve().as_uri())
        return self._view(file.select("*", col("_metadata.row_index").alias("order")))

    def from_arrow(self, table: pa.Table) -> ir.Table:
        """A table of the driver's memory as one that the workers can join with."""
        return self._view(self.session.createDataFrame(table))

    def materialise(self, table: ir.Table) -> ir.Table:
        """Compute `table` once, when first read; the workers keep it, on disk where memory is short."""
        return self._view(self._frame(table).persist(StorageLevel.MEMORY_AND_DISK))

    def to_arrow(self, table: ir.Table) -> pa.Table:
        """A result in the driver's memory, in its order."""
        return self._frame(table).toArrow()

    def _frame(self, table: ir.Table) -> Any:
        return self.session.sql(self.backend.compile(table))

    def _view(self, frame: Any) -> ir.Table:
        name = f"step_{next(self._numbers)}"
        frame.createOrReplaceTempView(name)
        return self.backend.table(name)


@contextlib.contextmanager
def open_spark(folder: Path, master: str) -> Iterator[Spark]:
    """Make `folder`, work with a Spark application of `master`, and end both.

    Args:
        master: Such as spark://host:7077, or local[4] for this machine alone.

    Raises:
        BadInput: No Java, or no such master.
    """
    folder.mkdir()
    try:
        with spark_session(folder, master) as session:
            yield Spark(session, ibis.pyspark.connect(session))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def spark_session(folder: Path, master: str) -> Iterator[SparkSession]:
    """A session whose answers do not depend on where it runs; `folder` is for the driver's files.

    A session that runs in this process already, such as a notebook's, is used and goes on.

    Raises:
        BadInput: No Java, no such master, or a session of another master runs already.
    """
    running = SparkSession.getActiveSession()
    if running is not None and running.sparkContext.master != master:
        raise BadInput(f"This process is connected to {running.sparkContext.master} already: name that as the master.")
    owner = running or _start(folder, master)
    session = owner.newSession()
    for name, value in {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }.items():
        session.conf.set(name, value)
    try:
        yield session
    finally:
        if running is None:
            owner.stop()
        else:
            session.catalog.clearCache()


def _start(folder: Path, master: str) -> SparkSession:
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise BadInput("Spark needs Java 17 or later: install it, or set JAVA_HOME.")
    _check(master)
    logging = folder / "log4j2.properties"
    logging.write_text(_LOGGING, encoding="utf-8")
    builder = SparkSession.builder.master(master).appName("belfry").config("spark.ui.enabled", "false")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    if "SPARK_CONF_DIR" not in os.environ:
        builder = builder.config("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={logging.as_uri()}")
    # Spark's own default is whatever python3 is on a worker; the one that must be there is the driver's.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if master.startswith("local") or _hosts(master) <= {"127.0.0.1", "localhost"}:
        for name in ("spark.driver.host", "spark.driver.bindAddress"):
            builder = builder.config(name, "127.0.0.1")
    try:
        return builder.getOrCreate()
    except PySparkException as error:
        raise BadInput(f"Spark did not start ({' '.join(str(error).split())[:200]}): Java 17 or later?") from None


def _hosts(master: str) -> set[str | None]:
    return {urlsplit(f"//{each}").hostname for each in master.removeprefix("spark://").split(",")}


def _check(master: str) -> None:
    """Fail at once where Spark would try for a minute."""
    if not master.startswith("spark://"):
        return
    reason = ""
    for each in master.removeprefix("spark://").split(","):
        try:
            address = urlsplit(f"//{each}")
            socket.create_connection((address.hostname or "", address.port or 7077), _CONNECT_SECONDS).close()
            return
        except (OSError, ValueError) as error:
            reason = str(error)
    raise BadInput(f"No Spark master answers at {master} ({reason}): check the URL.")
