"""A dataset is a folder: items.parquet, events.parquet, optional users.parquet and slates.parquet, dataset.json."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.artefacts import atomic_folder, read_json, sha256_of, write_json
from pipelines.data import schema
from pipelines.errors import BadInput

INFO = "dataset.json"
_FILES = (INFO, "items.parquet", "events.parquet", "users.parquet", "slates.parquet", "truth.parquet")


class DatasetInfo(BaseModel):
    """dataset.json."""

    model_config = ConfigDict(extra="forbid")

    name: str
    source: str
    licence: str = ""
    # "row order" where the source has no times: `at` is then the row number in seconds since 1970.
    clock: Literal["utc", "row order"] = "utc"
    items: int
    events: int
    users: int
    first_at: datetime | None
    last_at: datetime | None
    languages: list[str]
    report: dict[str, Any]


@dataclass(frozen=True)
class Dataset:
    """An opened dataset folder. Nothing is read until it is asked for.

    Args:
        folder: Where it is.
        info: dataset.json: name, source, counts of `items`, `events` and `users`, languages, time range.

    Example:
        >>> from pipelines import Dataset
        >>> data = Dataset.open("data")
        >>> data.info.name, data.info.items, sorted(data.info.languages), data.events.name
        ('newsroom', 250, ['de', 'en', 'es', 'fr'], 'events.parquet')
    """

    folder: Path
    info: DatasetInfo

    @property
    def items(self) -> Path:
        return self.folder / "items.parquet"

    @property
    def events(self) -> Path:
        return self.folder / "events.parquet"

    @property
    def users(self) -> Path | None:
        path = self.folder / "users.parquet"
        return path if path.exists() else None

    @classmethod
    def open(cls, folder: Path | str) -> Dataset:
        """Open and check a dataset folder.

        Raises:
            BadInput: Not a dataset, or a file of it is missing, broken or of another schema.
        """
        folder = Path(folder)
        if not (folder / INFO).exists():
            raise BadInput(f"{folder} is not a Belfry dataset (it has no {INFO}): make one with `belfry data import`.")
        try:
            info = DatasetInfo.model_validate(read_json(folder / INFO))
        except ValidationError as error:
            first = error.errors()[0]
            what = ": ".join([*map(str, first["loc"]), first["msg"]])
            raise BadInput(f"{folder / INFO} cannot be read ({what}): import it again.") from None
        dataset = cls(folder, info)
        _check(dataset.items, schema.ITEMS)
        _check(dataset.events, schema.EVENTS)
        if dataset.users:
            _check(dataset.users, schema.USERS)
        if dataset.slates:
            _check(dataset.slates, schema.SLATES)
        return dataset

    @property
    def slates(self) -> Path | None:
        """What answered each request, where a gateway did. Nothing is trained on it; it tells impressions apart."""
        path = self.folder / "slates.parquet"
        return path if path.exists() else None

    def fingerprint(self) -> str:
        """A short name for the exact content of the tables."""
        tables = [path for path in (self.items, self.events, self.users) if path]
        return hashlib.sha256("".join(map(sha256_of, tables)).encode()).hexdigest()[:16]

    def verify(self) -> None:
        """Read every table to its end, which `open` does not.

        Raises:
            BadInput: One of them is broken.
        """
        for path in filter(None, (self.items, self.events, self.users, self.slates)):
            try:
                with pq.ParquetFile(path) as file:
                    for _ in file.iter_batches():
                        pass
            except (OSError, pa.ArrowException):
                raise BadInput(f"{path} is broken: import the dataset again.") from None


def _check(path: Path, expected: pa.Schema) -> None:
    try:
        found = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid):
        raise BadInput(f"{path} is missing or broken: import the dataset again.") from None
    for field in expected:
        index = found.get_field_index(field.name)
        if index < 0 and field.name in schema.ADDED_LATER:
            continue
        if index < 0 or found.field(index).type != field.type:
            kind = "missing" if index < 0 else f"of type {found.field(index).type}, not {field.type}"
            raise BadInput(f"{path}: column {field.name} is {kind}: import the dataset again.")


@contextlib.contextmanager
def new_dataset(destination: Path | str) -> Iterator[Path]:
    """Yield a temporary folder to write the parquet files and `write_info` into; whole at the end, or not there."""
    with atomic_folder(Path(destination), replaces=_FILES) as draft:
        yield draft
        Dataset.open(draft)


def write_info(folder: Path, info: DatasetInfo) -> None:
    """Write dataset.json."""
    write_json(folder / INFO, info.model_dump(mode="json"))
