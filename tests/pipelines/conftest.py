"""Datasets written straight from the schema, so that tests decide every value."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data import schema
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset, DatasetInfo, new_dataset, write_info
from pipelines.data.histories import Behaviour, load_behaviour

Row: TypeAlias = dict[str, Any]
MakeDataset: TypeAlias = Callable[..., Dataset]
_TIMES = ("at", "published_at", "removed_at", "created_at")


def _table(rows: Sequence[Row], expected: pa.Schema) -> pa.Table:
    """Rows with the columns that they have; times in seconds since 1970."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)

    def value(row: Row, name: str) -> Any:
        found = row.get(name)
        return epoch + timedelta(seconds=found) if name in _TIMES and found is not None else found

    return pa.Table.from_pylist([{name: value(row, name) for name in expected.names} for row in rows], expected)


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory: pytest.TempPathFactory) -> MakeDataset:
    """Write a dataset folder; events without an event_id are called e0, e1, ..."""

    def make(events: Sequence[Row], items: Sequence[Row], users: Sequence[Row] | None = None, **info: Any) -> Dataset:
        folder = tmp_path_factory.mktemp("made") / "data"
        with new_dataset(folder) as draft:
            events = [{"event_id": f"e{number}"} | event for number, event in enumerate(events)]
            pq.write_table(_table(events, schema.EVENTS), draft / "events.parquet")
            pq.write_table(_table(items, schema.ITEMS), draft / "items.parquet")
            if users is not None:
                pq.write_table(_table(users, schema.USERS), draft / "users.parquet")
            counts = {"items": len(items), "events": len(events), "users": len({row["user_id"] for row in events})}
            known = {"name": "made", "source": "a test", "languages": [], "report": {}, "first_at": None}
            write_info(draft, DatasetInfo.model_validate(known | {"last_at": None} | counts | info))
        return Dataset.open(folder)

    return make


@dataclass(frozen=True)
class Made:
    dataset: Dataset
    catalogue: Catalogue
    behaviour: Behaviour


@pytest.fixture(scope="session")
def made(make_dataset: MakeDataset) -> Made:
    """15 users, 25 items of which one is not in the catalogue, 120 slates of which some hold an item twice, and
    clicks outside of slates; items are published and removed while it goes on."""
    rng = np.random.default_rng(7)
    items: list[Row] = [
        {"item_id": f"i{number:02}", "title": f"Title {number % 5}", "category": f"c{number % 3}"}
        | ({"published_at": 50 * int(rng.integers(180))} if number % 3 else {})
        | ({"removed_at": 50 * int(rng.integers(100, 200))} if number % 4 == 1 else {})
        for number in range(24)
    ]
    events: list[Row] = []
    for request in range(120):
        at = 50 * int(rng.integers(200))
        user = f"u{rng.integers(15):02}"
        for position, item in enumerate(rng.integers(0, 25, 6)):
            shown = {"user_id": user, "item_id": f"i{item:02}", "request_id": f"r{request}", "at": at}
            shown |= {"device": ["mobile", "desktop", None][request % 3]}
            events.append(shown | {"position": position, "kind": "impression"})
            if rng.random() < 0.3:
                later = at + int(rng.integers(0, 30))
                read = {"dwell_seconds": float(rng.integers(60)), "scroll_depth": float(rng.random())}
                events.append(shown | {"kind": "click", "at": later} | read)
    for _ in range(120):
        plain = {"user_id": f"u{rng.integers(15):02}", "item_id": f"i{rng.integers(25):02}", "kind": "click"}
        events.append(plain | {"at": int(rng.integers(0, 10_000))})
    users = [{"user_id": f"u{number:02}", "language": ["en", "de", None][number % 3]} for number in range(15)]
    dataset = make_dataset(sorted(events, key=lambda event: event["at"]), items, users)
    catalogue = Catalogue.load(dataset)
    return Made(dataset, catalogue, load_behaviour(dataset, catalogue.ids))


@pytest.fixture(scope="session")
def spark_master(require: Callable[[object, str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a standalone Spark master on loopback with two worker processes of one core each."""
    require(importlib.util.find_spec("pyspark"), "pyspark is not installed")
    require(shutil.which("java") or os.environ.get("JAVA_HOME"), "Java is not installed")
    import pyspark

    folder = tmp_path_factory.mktemp("spark")
    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    repository = str(Path(__file__).resolve().parents[2])
    # Compiled for seconds of work, not for hours; the drivers of tests have it from here too.
    java = pytest.MonkeyPatch()
    java.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m", "PYTHONPATH": repository}
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, role: str, *more: str, says: str) -> str:
        """Start a daemon, and return the rest of the line in which it says so."""
        log = folder / f"{name}.log"
        common = ("--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
        with log.open("wb") as output:
            command = [str(spark_class), f"org.apache.spark.deploy.{role}", *common, *more]
            # A group of its own, which the executors that a worker starts are in too.
            processes.append(
                subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
            )
        deadline = time.monotonic() + 60
        while says not in (text := log.read_text()):
            if processes[-1].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Spark's {name} did not start: {text}")
            time.sleep(0.1)
        return text.split(says, 1)[1].split()[0]

    try:
        url = start("master", "master.Master", says="Starting Spark master at ")
        for name in ("worker1", "worker2"):
            size = ("--cores", "1", "--memory", "1g", "--work-dir", str(folder / name))
            start(name, "worker.Worker", *size, url, says="Successfully registered with master ")
        yield url
    finally:
        java.undo()
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
