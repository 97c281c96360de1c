"""The frame of an import: whole or absent, sorted, and plain words when the machine fails."""

import errno
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data import clean, importing
from pipelines.data.clean import PART
from pipelines.data.dataset import Dataset
from pipelines.data.delimited import ROW
from pipelines.data.importing import Import, new_import, write_table
from pipelines.errors import BadInput


def one_event(job: Import) -> None:
    """Import one item and one event, as another source would."""
    raw = job.engine.new_file()
    rows = {ROW: [1], PART: ["made up"], "event_id": ["e"], "user_id": ["u"], "item_id": ["a"], "kind": ["click"]}
    pq.write_table(pa.table({**rows, "title": ["A"], "body": ["B"]}), raw)
    table = job.engine.read(raw).mutate(at=ibis.literal(datetime(2024, 1, 1, tzinfo=UTC)))
    items = clean.items(job.engine, table.mutate(**{PART: ibis.literal("items")}), job.report)
    events = clean.events(job.engine, table, job.report, None)
    job.finish(items=items, events=events, name="one", source="a test")


def test_a_source_writes_a_dataset(tmp_path: Path) -> None:
    with new_import(tmp_path / "out") as job:
        one_event(job)
    info = Dataset.open(tmp_path / "out").info
    assert (info.name, info.source, info.items, info.events) == ("one", "a test", 1, 1)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "dataset.json",
        "events.parquet",
        "items.parquet",
        "out",
    ]


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (
            OSError,
            (
                errno.ENOSPC,
                "No space left on device",
            ),
            "The disk of .*out is full",
        ),
        (
            OSError,
            (
                errno.EROFS,
                "Read-only file system",
            ),
            "could not be written",
        ),
        (duckdb.IOException, ("IO Error: Could not write file: No space left on device",), "The disk is full"),
        (duckdb.TransactionException, ("Failed to commit: No space left on device",), "The disk is full"),
        (duckdb.IOException, ("IO Error:\nsomething else",), "could not be written"),
        (duckdb.OutOfMemoryException, ("no",), r"more than \d+MiB of memory"),
    ],
)
def test_a_failing_machine_is_one_sentence_and_leaves_the_earlier_dataset(
    tmp_path: Path, error: type[Exception], arguments: tuple[object, ...], message: str
) -> None:
    with new_import(tmp_path / "out") as job:
        one_event(job)
    before = (tmp_path / "out" / "events.parquet").read_bytes()
    with pytest.raises(BadInput, match=message) as caught, new_import(tmp_path / "out") as job:
        (job.draft / "events.parquet").write_bytes(b"half")
        raise error(*arguments)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "events.parquet").read_bytes() == before


def test_a_defect_is_not_called_bad_input(tmp_path: Path) -> None:
    with pytest.raises(duckdb.BinderException), new_import(tmp_path / "out"):
        raise duckdb.BinderException("no such column")
    assert list(tmp_path.iterdir()) == []


def test_a_destination_below_a_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is not a folder"), new_import(tmp_path / "file" / "out"):
        pass


def test_row_groups_do_not_depend_on_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_ROW_GROUP", 1000)
    expected = pa.schema([pa.field("number", pa.int64(), nullable=False)])
    with new_import(tmp_path / "out") as job:
        raw = job.engine.new_file()
        pq.write_table(pa.table({"number": range(2500)}), raw)
        table = job.engine.read(raw).order_by(ibis.desc("number"))
        write_table(job.engine, table, tmp_path / "numbers.parquet", expected)
        one_event(job)
    with pq.ParquetFile(tmp_path / "numbers.parquet") as file:
        assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [1000, 1000, 500]
        assert file.schema_arrow == expected
        assert file.read().column("number").to_pylist() == list(range(2499, -1, -1))


def test_an_import_that_fails_ends_without_noise(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("user_id,item_id,at\nu,a,never\n")
    code = (
        "import sys\nfrom pathlib import Path\nfrom pipelines.data.sources.table import import_table\n"
        "from pipelines.errors import BadInput\n"
        "try:\n    import_table(Path('e.csv'), Path('out'))\n"
        "except BadInput as error:\n    print(error)\n    sys.exit(2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == "Not one usable event is left of the input (1 times: at is missing or not a time).\n"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ibis.literal("1e400"), None),
        (lambda: ibis.literal("infinity"), None),
        (lambda: ibis.literal("99999-01-01"), None),
        (lambda: ibis.literal("2019-11-12 14:14:46 Nowhere/Land"), None),
        (lambda: ibis.literal(float("nan")), None),
        (lambda: ibis.literal(True), None),
        (lambda: ibis.literal(-5), datetime(1969, 12, 31, 23, 59, 55, tzinfo=UTC)),
        (lambda: ibis.literal(1_573_568_086_123_456), datetime(2019, 11, 12, 14, 14, 46, 123000, tzinfo=UTC)),
    ],
)
def test_only_times_are_times(make: Callable[[], ibis.expr.types.Value], expected: datetime | None) -> None:
    backend = ibis.duckdb.connect()
    try:
        (found,) = backend.to_pyarrow(clean.moment(make()).name("at").as_table())["at"].to_pylist()
    finally:
        backend.disconnect()
    assert found == expected
