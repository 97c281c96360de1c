"""A training run that has not come to its end: a folder beside the run folder, which can be resumed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pipelines.artefacts import check_folder, read_json, write_json
from pipelines.checkpoint import Checkpoint, History
from pipelines.errors import BadInput
from pipelines.recipe import Recipe
from pipelines.run import HISTORY, LOGS, ORIGIN, Origin
from pipelines.tracking import CsvFile, Mlflow, TensorBoard, Tracker

_LOCK, _CHECKPOINTS, _SCRATCH, _MLFLOW = "lock", "checkpoints", "scratch", "mlflow_run_id"
# What a search of many trainings has come to.
SEARCH = "search.json"
# The first is there from the beginning.
_FILES = (_LOCK, ORIGIN, _CHECKPOINTS, _SCRATCH, _MLFLOW, LOGS, HISTORY, SEARCH)


class Unfinished:
    """Checkpoints, logs and large temporary files of a training run.

    Attributes:
        folder: `RUN.partial`.
        checkpoints: For what a resumed run goes on from.
        scratch: For files that a resumed run makes anew.
    """

    def __init__(self, folder: Path, trackers: list[Tracker]) -> None:
        self.folder, self.checkpoints, self.scratch = folder, folder / _CHECKPOINTS, folder / _SCRATCH
        self._trackers = trackers
        self._rows: dict[str, list[dict[str, float]]] = {}

    def checkpoint(self, fit: str) -> Checkpoint:
        """The checkpoint of the fit of that name."""

        def record(history: History) -> None:
            self._rows[fit] = history.rows()
            for tracker in self._trackers:
                tracker.track(self._rows)

        return Checkpoint(self.checkpoints / f"{fit}.npz", record)

    def part(self, name: str) -> Callable[[str], Checkpoint]:
        """Checkpoints of a part of the training that has fits of its own."""
        return lambda fit: self.checkpoint(f"{name}-{fit}")

    def forget(self) -> None:
        """Leave nothing to resume: what was begun cannot be finished."""
        (self.folder / SEARCH).unlink(missing_ok=True)
        for path in self.checkpoints.glob("*.npz"):
            path.unlink()

    def close(self, *, finished: bool) -> None:
        """Tell the trackers that no more comes, and whether that is the end of the training."""
        for tracker in self._trackers:
            tracker.close(finished=finished)

    def copy_logs(self, run: Path) -> None:
        """Give the logs to the folder of the finished run."""
        shutil.copytree(self.folder / LOGS, run / LOGS)
        shutil.copy(self.folder / HISTORY, run / HISTORY)


def partial_of(out: Path) -> Path:
    """Where an unfinished run of `out` is."""
    return out.with_name(f"{out.name}.partial")


@contextlib.contextmanager
def unfinished(
    out: Path, origin: Origin, recipe: Recipe, *, resume: bool, mlflow: str | None = None
) -> Iterator[Unfinished]:
    """Begin a training run, or go on with one; its folder is gone when the block succeeds.

    When the block fails, what can be resumed stays.

    Args:
        out: The run folder that is to be.
        origin: What a resumed run must share with its beginning.
        recipe: What MLflow is told of the run.
        resume: Go on from the last checkpoint, where there is one.
        mlflow: A tracking URI, or None.

    Raises:
        BadInput: There is something to resume, and `resume` is false or the origin is another; or somebody else is
            training this run.
    """
    folder = partial_of(out)
    check_folder(folder, replaces=_FILES)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"{out} is being trained by another process: wait for it, or give another --out.") from None
        _check(folder, out, origin, resume)
        shutil.rmtree(folder / _SCRATCH, ignore_errors=True)
        for name in (_SCRATCH, _CHECKPOINTS):
            (folder / name).mkdir(exist_ok=True)
        write_json(folder / ORIGIN, origin.model_dump())
        work = None
        try:
            trackers: list[Tracker] = [CsvFile(folder / HISTORY), TensorBoard(folder / LOGS)]
            if mlflow is not None:
                trackers.append(Mlflow(mlflow, out.name, recipe.model_dump(mode="json"), folder / _MLFLOW))
            work = Unfinished(folder, trackers)
            yield work
            work.close(finished=True)
        except BaseException:
            if work is not None:
                work.close(finished=False)
            shutil.rmtree(folder / _SCRATCH, ignore_errors=True)
            if not _resumable(folder):
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def _resumable(folder: Path) -> bool:
    return (folder / SEARCH).exists() or any((folder / _CHECKPOINTS).glob("*.npz"))


def _check(folder: Path, out: Path, origin: Origin, resume: bool) -> None:
    if not _resumable(folder):
        (folder / _MLFLOW).unlink(missing_ok=True)
        return
    if not resume:
        raise BadInput(
            f"{out} was begun and not finished: go on with --resume, or remove {folder} to train from the start."
        )
    what = Origin.model_validate(read_json(folder / ORIGIN)).difference(origin)
    if what is not None:
        raise BadInput(f"{folder} was begun with other {what}: go on with those, or remove it to train from the start.")
