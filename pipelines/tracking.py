"""Where the course of a training run is written while it runs: a CSV file, TensorBoard, MLflow."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipelines.artefacts import atomic_file
from pipelines.errors import BadInput

Row = Mapping[str, float]


class Tracker(Protocol):
    """Told the rows of every fit, all of them each time: the newest may have been lost with a process."""

    def track(self, fits: Mapping[str, Sequence[Row]]) -> None: ...

    def close(self, *, finished: bool) -> None: ...


class CsvFile:
    """One line for each fit and epoch, in one file that is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def track(self, fits: Mapping[str, Sequence[Row]]) -> None:
        columns = list(dict.fromkeys(name for rows in fits.values() for row in rows for name in row))
        with atomic_file(self.path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["fit", *columns], lineterminator="\n")
            writer.writeheader()
            for fit, rows in fits.items():
                writer.writerows({"fit": fit, **row} for row in rows)

    def close(self, *, finished: bool) -> None:
        pass


class TensorBoard:
    """Event files, a folder for each fit. What an earlier process wrote there is written anew."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder
        self._writers: dict[str, Any] = {}
        self._written: dict[str, int] = {}

    def track(self, fits: Mapping[str, Sequence[Row]]) -> None:
        from towers.runtime import tf

        for fit, rows in fits.items():
            if fit not in self._writers:
                self._writers[fit] = tf.summary.create_file_writer(str(self.folder / fit))
            with self._writers[fit].as_default():
                for row in rows[self._written.get(fit, 0) :]:
                    for name, value in row.items():
                        if name != "epoch":
                            tf.summary.scalar(name, value, step=int(row["epoch"]))
            self._written[fit] = len(rows)
            self._writers[fit].flush()

    def close(self, *, finished: bool) -> None:
        for writer in self._writers.values():
            writer.close()


class Mlflow:
    """A run of an MLflow tracking server or folder.

    Args:
        uri: Such as http://host:5000 or sqlite:///mlflow.db.
        name: Of the run.
        settings: Sections of what the run was started with.
        resumed: The file that holds the run's id, so that a resumed training goes on in the same run.
    """

    def __init__(self, uri: str, name: str, settings: Mapping[str, Any], resumed: Path) -> None:
        import mlflow

        try:
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            experiment = self._client.get_experiment_by_name("belfry")
            number = experiment.experiment_id if experiment else self._client.create_experiment("belfry")
            if resumed.exists():
                self.run_id = resumed.read_text(encoding="utf-8")
                self._client.update_run(self.run_id, status="RUNNING")
            else:
                self.run_id = self._client.create_run(number, run_name=name).info.run_id
                resumed.write_text(self.run_id, encoding="utf-8")
                for key, value in _flat(settings).items():
                    self._client.log_param(self.run_id, key, value)
        except mlflow.exceptions.MlflowException as error:
            raise BadInput(f"MLflow at {uri} cannot be used ({' '.join(str(error).split())[:200]}).") from None
        self._written: dict[str, int] = {}

    def track(self, fits: Mapping[str, Sequence[Row]]) -> None:
        for fit, rows in fits.items():
            for row in rows[self._written.get(fit, 0) :]:
                for name, value in row.items():
                    if name != "epoch":
                        key = f"{fit}/{name}".replace("@", "_at_")
                        self._client.log_metric(self.run_id, key, value, step=int(row["epoch"]))
            self._written[fit] = len(rows)

    def close(self, *, finished: bool) -> None:
        self._client.set_terminated(self.run_id, "FINISHED" if finished else "KILLED")


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings under names such as training.seed."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return found
