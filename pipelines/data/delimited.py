"""Delimited text of any quality, streamed into a Parquet file of strings that Ibis can read.

Python's `csv` reads the records: DuckDB's reader gives up on a whole file for mixed line ends, and on the whole rest of
a file for one quote that is never closed. Nothing here interprets a value.
"""

from __future__ import annotations

import codecs
import csv
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data.report import TableCount
from pipelines.errors import BadInput

ROW = "_row"  # number of the record in its file, from 1; a header is not a record
MENDED = "_mended"  # whether bytes that are not text were replaced by U+FFFD
WRONG_WIDTH = "wrong number of columns"
EMPTY_LINE = "empty line"
TOO_LONG = "a field longer than 131,072 characters, or a quote that is never closed"

_BATCH = 20_000
# A record that spans more lines than this is a quote that was never closed, not a text with line breaks.
_MAX_LINES = 2_000
_DELIMITERS = ",\t;|"

Line = tuple[str, bool]


@dataclass(frozen=True)
class Record:
    """One record; `fields` is None if it is broken, and `reason` says how."""

    fields: list[str] | None
    mended: bool = False
    reason: str = ""


def open_text(path: Path, encoding: str = "utf-8", newline: str = "\n") -> IO[str]:
    """Open a text file so that undecodable bytes survive as surrogates.

    Raises:
        BadInput: The file is missing, not a file, empty, unreadable or binary.
    """
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} is {'a folder' if path.is_dir() else 'not a regular file'}: give a file.")
    try:
        with path.open("rb") as file:
            start = file.read(8192)
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist.") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}).") from None
    if not start.strip():
        raise BadInput(f"{path} is empty.")
    if encoding == "utf-8" and start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in start:
        raise BadInput(f"{path} is not a text file.")
    elif encoding == "utf-8" and start.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    errors = "replace" if encoding == "utf-16" else "surrogateescape"
    return path.open(encoding=encoding, errors=errors, newline=newline)


def lines(file: IO[str]) -> Iterator[Line]:
    """Lines with their ends, each with whether it had to be mended."""
    for line in file:
        if line.isascii():
            yield line, False
            continue
        try:
            line.encode()
        except UnicodeEncodeError:
            yield line.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), True
        else:
            yield line, False


def split_lines(source: Iterator[Line], delimiter: str, width: int) -> Iterator[Record]:
    """Records of a format without quotes, such as MIND's."""
    for text, mended in source:
        text = text.rstrip("\r\n")
        fields = text.split(delimiter)
        if len(fields) == width:
            yield Record(fields, mended)
        else:
            yield Record(None, reason=WRONG_WIDTH if text else EMPTY_LINE)


def split_csv(source: Iterator[Line], delimiter: str, width: int) -> Iterator[Record]:
    """Records of CSV, whose quoted fields may hold delimiters and line breaks.

    A quote that is never closed would swallow the lines after it. So when a record of several lines turns out broken,
    only its first line is given up, and reading starts again at the second one.
    """
    waiting: deque[Line] = deque()
    taken: list[Line] = []
    at_end = False

    def feed() -> Iterator[str]:
        nonlocal at_end
        while len(taken) < _MAX_LINES:
            line = waiting.popleft() if waiting else next(source, None)
            if line is None:
                break
            taken.append(line)
            yield line[0]
        at_end = True

    while not at_end or waiting:
        at_end = False
        reader = csv.reader(feed(), delimiter=delimiter)
        while True:
            taken.clear()
            try:
                fields = next(reader, None)
            except csv.Error:
                fields, at_end = [], True
            if fields is None:
                break
            # A record is complete before the reader asks for another line, so here the quote was still open.
            if at_end or (len(fields) != width and len(taken) > 1):
                yield Record(None, reason=TOO_LONG if at_end else WRONG_WIDTH)
                waiting.extendleft(reversed(taken[1:]))
                at_end = False
                taken.clear()
                break
            if len(fields) == width:
                yield Record(fields, any(mended for _, mended in taken))
            else:
                yield Record(None, reason=WRONG_WIDTH if fields else EMPTY_LINE)


def guess_delimiter(header: str) -> str:
    """The delimiter that splits the header line into most columns; a comma for a file of one column."""

    def columns(delimiter: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=delimiter)))
        except csv.Error:
            return 0

    return max(_DELIMITERS, key=columns)


def to_parquet(records: Iterator[Record], columns: Sequence[str], destination: Path, count: TableCount) -> None:
    """Write the whole records as strings, with `ROW` and `MENDED`; drop and count the broken ones.

    The whole ones are counted by `clean`, which decides about them.
    """
    schema = pa.schema([(ROW, pa.int64()), (MENDED, pa.bool_()), *((name, pa.string()) for name in columns)])
    with pq.ParquetWriter(destination, schema, compression="lz4") as writer:
        rows: list[tuple[int, bool, list[str]]] = []

        def flush() -> None:
            fields = zip(*(row[2] for row in rows), strict=True)
            arrays = [pa.array([row[0] for row in rows], pa.int64()), pa.array([row[1] for row in rows], pa.bool_())]
            writer.write_batch(
                pa.RecordBatch.from_arrays([*arrays, *(pa.array(f, pa.string()) for f in fields)], schema=schema)
            )
            rows.clear()

        for number, record in enumerate(records, start=1):
            if record.fields is None:
                count.read += 1
                count.drop(record.reason)
                continue
            rows.append((number, record.mended, record.fields))
            if len(rows) == _BATCH:
                flush()
        if rows:
            flush()


def read_plain(
    path: Path, columns: Sequence[str], destination: Path, count: TableCount, *, delimiter: str, encoding: str = "utf-8"
) -> None:
    """Read a file without header and quotes into a Parquet file of strings."""
    with closing(open_text(path, encoding)) as file:
        to_parquet(split_lines(lines(file), delimiter, len(columns)), columns, destination, count)


def read_csv(path: Path, destination: Path, count: TableCount) -> list[str]:
    """Read a CSV file with a header into a Parquet file with the columns c0, c1, ...; return the header.

    The header's names are not used as column names, since they may be anything, or the same twice.

    Raises:
        BadInput: See `open_text`; or the header cannot be read.
    """
    with closing(open_text(path, newline="")) as file:
        source = lines(file)
        first = next((text for text, _ in source if text.strip()), None)
        if first is None:
            raise BadInput(f"{path} is empty.")
        delimiter = guess_delimiter(first)
        try:
            header = next(csv.reader([first], delimiter=delimiter, strict=True))
        except csv.Error:
            raise BadInput(f"{path}: the header line has a quote that is not closed on it, or is too long.") from None
        columns = [f"c{index}" for index in range(len(header))]
        to_parquet(split_csv(source, delimiter, len(header)), columns, destination, count)
    return [name.strip() for name in header]
