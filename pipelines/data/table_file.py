"""A CSV or Parquet file of somebody else's, opened as a table with safe column names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from pipelines.data.clean import PART
from pipelines.data.delimited import MENDED, ROW, read_csv
from pipelines.data.engine import DuckDB
from pipelines.data.report import ImportReport
from pipelines.errors import BadInput

_BATCH = 65_536
# Rows that hold images are taken few at a time.
_IMAGE_BATCH = 64
_MAX_NAMES = 40

_PLAIN_TYPES: tuple[Callable[[pa.DataType], bool], ...] = (
    pt.is_integer,
    pt.is_float32,
    pt.is_float64,
    pt.is_boolean,
    pt.is_decimal128,
    pt.is_timestamp,
    pt.is_date,
)


@dataclass(frozen=True)
class TableFile:
    """An opened file.

    Attributes:
        path: The file.
        part: Its name in the report.
        table: `ROW`, `MENDED`, `PART` and c0, c1, ... Images are paths.
        columns: Which of c0, c1, ... the columns are, by their own names.
        header: The names of all columns of the file, wanted or not.
        images: The folder to which the paths of images are relative.
    """

    path: Path
    part: str
    table: ir.Table
    columns: dict[str, str]
    header: list[str]
    images: Path

    def find(self, name: str) -> ir.Column | None:
        """The column of that name, if the file has it."""
        return self.table[self.columns[name]] if name in self.columns else None

    def names(self) -> str:
        """The column names in words, for messages."""
        names = [name for name in self.header if name]
        return ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")


def open_table(
    engine: DuckDB,
    path: Path,
    part: str,
    report: ImportReport,
    *,
    is_wanted: Callable[[str], bool],
    is_image: Callable[[str], bool] = lambda name: False,
) -> TableFile:
    """Open a file.

    Args:
        engine: Where the table lives.
        path: CSV with a header (any usual delimiter, quotes, byte order mark), or Parquet. Its content decides which.
        part: The name of the file in the report, which gets its broken records.
        report: The report.
        is_wanted: Whether a column of that name may be needed.
        is_image: Whether a column of that name holds images. If they are bytes and not paths, they are put into files,
            so that an engine never has to hold them.

    Raises:
        BadInput: The file is missing, empty, broken or of no known kind.
    """
    raw = engine.new_file()
    report.table(part)
    images = path.parent
    if _is_parquet(path):
        files = raw.with_suffix(".images")
        header, columns = _read_parquet(path, raw, files, is_wanted, is_image)
        images = files if files.exists() else images
    else:
        header = read_csv(path, raw, report.table(part))
        columns = {}
        for index, name in enumerate(header):
            columns.setdefault(name, f"c{index}")  # of two columns with one name the first is meant
    return TableFile(path, part, engine.read(raw).mutate(**{PART: ibis.literal(part)}), columns, header, images)


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False  # reading it as text says what is wrong


def _read_parquet(
    path: Path,
    destination: Path,
    images: Path,
    is_wanted: Callable[[str], bool],
    is_image: Callable[[str], bool],
) -> tuple[list[str], dict[str, str]]:
    """Copy the wanted columns under safe names and in types that every engine reads."""
    try:
        # Without a buffer of its own, the reader would hold a whole row group, which may be all images.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            found = file.schema_arrow
            names = [name for name in found.names if is_wanted(name)]
            if len(set(names)) < len(names):
                raise BadInput(f"{path} has two columns of one name: rename one of them.")
            pictures = {name for name in names if is_image(name) and _holds_images(found.field(name).type)}
            types = {name: pa.string() if name in pictures else _target(path, found.field(name)) for name in names}
            columns = {name: f"c{index}" for index, name in enumerate(names)}
            fields = [pa.field(columns[name], types[name]) for name in names]
            schema = pa.schema([(ROW, pa.int64()), (MENDED, pa.bool_()), *fields])
            with pq.ParquetWriter(destination, schema, compression="lz4") as writer:
                first = 1
                for batch in file.iter_batches(_IMAGE_BATCH if pictures else _BATCH, columns=names):
                    mended = [False] * batch.num_rows
                    arrays = [
                        _stored(batch.column(name), images, first)
                        if name in pictures
                        else _converted(batch.column(name), types[name], mended)
                        for name in names
                    ]
                    rows = pa.array(range(first, first + batch.num_rows), pa.int64())
                    arrays = [rows, pa.array(mended, pa.bool_()), *arrays]
                    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
                    first += batch.num_rows
            return list(found.names), columns
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).strip().split("\n")[0]
        raise BadInput(f"{path} is not a readable Parquet file ({reason}).") from None


def _holds_images(kind: pa.DataType) -> bool:
    """Bytes, or the struct of bytes and path in which Hugging Face datasets keep an image."""
    return _is_binary(kind) or bool(pt.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _stored(array: pa.Array, folder: Path, first: int) -> pa.Array:
    """Write images to files that are named by their row; return the names."""
    folder.mkdir(exist_ok=True)
    names = []
    for row, image in enumerate((array.field("bytes") if pt.is_struct(array.type) else array).to_pylist(), first):
        names.append(None if image is None else str(row))
        if image is not None:
            (folder / str(row)).write_bytes(image)
    return pa.array(names, pa.string())


def _target(path: Path, field: pa.Field) -> pa.DataType:
    kind = field.type.value_type if pt.is_dictionary(field.type) else field.type
    if _is_text(kind) or _is_binary(kind) or pt.is_null(kind):
        return pa.string()
    if pt.is_list(kind) or pt.is_large_list(kind):
        return pa.list_(pa.string())
    if pt.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)  # what datasets keep; not every engine has nanoseconds with a zone
    if any(is_plain(kind) for is_plain in _PLAIN_TYPES):
        return kind
    raise BadInput(f"{path}: column {field.name} is of type {kind}, which cannot be imported: write it as text.")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind))


def _converted(array: pa.Array, target: pa.DataType, mended: list[bool]) -> pa.Array:
    """The array in the target type. Text that is not UTF-8, which Parquet does not rule out, is mended and flagged."""
    try:
        converted = array.cast(target, safe=not pt.is_timestamp(target))
        converted.validate(full=True)
    except pa.ArrowInvalid:
        if target != pa.string():
            raise
    else:
        return converted
    values = array.cast(array.type.value_type) if pt.is_dictionary(array.type) else array
    texts: list[str | None] = []
    for index, value in enumerate(values.cast(pa.binary()).to_pylist()):
        texts.append(None if value is None else value.decode("utf-8", "replace"))
        mended[index] |= value is not None and "\ufffd" in str(texts[-1])
    return pa.array(texts, pa.string())
