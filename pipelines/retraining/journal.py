"""What a retraining was begun with and how far it is, so that one that was killed goes on with the same inputs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.artefacts import read_json, write_json
from pipelines.errors import BadInput, Busy
from pipelines.retraining.recent import Recent

JOURNAL, _LOCK = "retrain.json", ".retrain.lock"
RETRAININGS = "retrainings"


class Journal(BaseModel):
    """WORK/retrain.json: it is there while a retraining is not finished.

    Attributes:
        id: Of the retraining, whose folder is WORK/retrainings/ID.
        model, models, source: What is retrained, and a fingerprint of where its events come from.
        now, champion, run, why: Inputs, fixed at the start; the recipe is in the folder.
        recent: Once the dataset is written.
        version: Once it is exported.
    """

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    id: str
    model: str
    models: str
    source: str
    now: datetime
    champion: int
    run: str
    why: str
    recent: Recent | None = None
    version: int | None = None

    @classmethod
    def read(cls, work: Path) -> Journal | None:
        """The unfinished retraining of a folder.

        Raises:
            BadInput: The file is damaged.
        """
        path = Path(work) / JOURNAL
        if not path.exists():
            return None
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise BadInput(f"{path} cannot be read ({error.errors()[0]['msg']}): remove it to begin anew.") from None

    def write(self, work: Path) -> None:
        """Keep it, atomically."""
        write_json(Path(work) / JOURNAL, self.model_dump(mode="json"))

    def folder(self, work: Path) -> Path:
        """Where everything of this retraining is."""
        return Path(work).resolve() / RETRAININGS / self.id


def forget(work: Path) -> None:
    """The retraining of a folder is finished, or given up."""
    (Path(work) / JOURNAL).unlink(missing_ok=True)


def new_id(work: Path, now: datetime) -> str:
    """A name that no retraining of the folder has: the moment it is begun at."""
    name = stem = f"{now:%Y%m%dT%H%M%SZ}"
    number = 1
    while (Path(work) / RETRAININGS / name).exists():
        number += 1
        name = f"{stem}-{number}"
    return name


def source_of(source: Path | str) -> str:
    """A fingerprint of where events come from: a URL may hold a password, which has no place in a file."""
    known = str(source) if "://" in str(source) else str(Path(source).resolve())
    return hashlib.sha256(known.encode()).hexdigest()[:16]


@contextlib.contextmanager
def alone(work: Path) -> Iterator[None]:
    """Keep every other retraining out of the folder, which is made; a killed process leaves no lock behind.

    Raises:
        Busy: Another is running.
        BadInput: It is no folder.
    """
    work = Path(work)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"{work} is not a folder: give another --work.") from None
    with (work / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another retraining is running in {work}.") from None
        yield
