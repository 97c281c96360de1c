"""One method on one task, in a process of its own: tune on the folds, fit, judge, write the rows.

`python -m benchmarks.quality.worker DATASET TASK METHOD WORK OUT`; the benchmark starts it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.quality.methods import METHODS
from benchmarks.quality.protocol import Method, Task
from benchmarks.quality.tasks import DATA_SETS
from pipelines.artefacts import atomic_file, write_json

_OPTIONAL = ("implicit", "cornac", "lightgbm", "torch")


def choose(task: Task, method: Method) -> tuple[dict[str, Any], float | None]:
    """The best setting on the folds and its metric there; one setting alone is not tried."""
    settings = method.settings()
    if len(settings) == 1:
        return settings[0], None
    tried = []
    for setting in settings:
        rows = [
            exam.judge.metrics(method.fit(training, **setting).over(exam.view))[task.metric]
            for training, exam in task.folds
        ]
        tried.append(float(np.nanmean(np.concatenate(rows))))
    best = int(np.argmax(tried))
    return settings[best], tried[best]


def run(task: Task, method: Method) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is to be told of a method, and its metrics by row under "exam/metric"."""
    begin = time.perf_counter()
    setting, validation = choose(task, method)
    tuned = time.perf_counter()
    fitted = method.fit(task.training, **setting)
    trained = time.perf_counter()
    rows = {
        f"{exam_name}/{metric}": values
        for exam_name, exam in task.exams.items()
        for metric, values in exam.judge.metrics(fitted.over(exam.view)).items()
    }
    told = {
        "method": method.name,
        "ours": method.ours,
        "setting": setting,
        "settings_tried": len(method.settings()),
        "validation": fitted.validation if validation is None else validation,
        "tuning_seconds": tuned - begin,
        "training_seconds": trained - tuned,
        "judging_seconds": time.perf_counter() - trained,
        "peak_mib": peak_mib(),
    }
    return told, rows


def peak_mib() -> float:
    """Peak resident memory of this process.

    Not ru_maxrss: that one survives exec, so that it is never less than the memory of the process that started this.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def main(data_set: str, task_name: str, method_name: str, work: Path, out: Path) -> None:
    task = next(each for each in DATA_SETS[data_set].load(work) if each.name == task_name)
    method = next(each for each in METHODS[task_name] if each.name == method_name)
    try:
        # On two cores a second BLAS thread made EASE no faster and took 1.7 times the processor time.
        with threadpool_limits(1, "blas"):
            told, rows = run(task, method)
    except ModuleNotFoundError as error:
        if error.name not in _OPTIONAL:
            raise
        write_json(out.with_suffix(".json"), {"method": method.name, "ours": method.ours, "missing": error.name})
        return
    with atomic_file(out.with_suffix(".npz")) as draft, draft.open("wb") as file:
        np.savez(file, **rows)
    write_json(out.with_suffix(".json"), told)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]))
