"""Runs every method of a data set, each in its own process, and writes the tables."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.commands import measure
from benchmarks.quality.methods import METHODS
from benchmarks.quality.protocol import Method, Task
from benchmarks.quality.sources import NotHere
from benchmarks.quality.table import Outcome, summary, write
from benchmarks.quality.tasks import DATA_SETS
from pipelines.artefacts import read_json

RESULTS = Path(__file__).parents[1] / "results"


def run(name: str, *, work: Path | None = None, results: Path = RESULTS, only: list[str] | None = None) -> int:
    """Run the data set `name`; returns how many methods failed.

    Args:
        work: Keeps the imported data and every finished method there, so that a later run goes on; temporary if None.
        results: Where the tables are written.
        only: Run only methods whose name holds one of these words, and take what `work` has of the others.
    """
    if work is not None:
        return _run(name, work.resolve() / name, results, only)
    with tempfile.TemporaryDirectory() as folder:
        return _run(name, Path(folder) / name, results, only)


def _run(name: str, work: Path, results: Path, only: list[str] | None) -> int:
    data_set = DATA_SETS[name]
    if not (work / "ready").exists():
        try:
            data_set.prepare(work)
        except NotHere as error:
            print(error)
            return 0
        _encode_once(name, work)
        (work / "ready").touch()
    summaries, failed = [], 0
    for task in data_set.load(work):
        outcomes = []
        for method in METHODS[task.name]:
            wanted = only is None or any(word.lower() in method.name.lower() for word in only)
            outcomes.append(_outcome(name, task, method, work, run_it=wanted))
            failed += "failed" in outcomes[-1].told
        summaries.append(summary(task, outcomes))
    path = write(results, name, summaries)
    print(f"\n{path.read_text(encoding='utf-8')}\nwritten to {path}", flush=True)
    return failed


def _encode_once(name: str, work: Path) -> None:
    """Text vectors of every view, so that no method pays for those that come after it."""
    from pipelines.encode import text_vectors
    from pipelines.recipe import Text

    for task in DATA_SETS[name].load(work):
        for view in {task.training.view, *(exam.view for exam in task.exams.values())}:
            if any(view.catalogue.text):
                text_vectors(view.catalogue.text, Text())


def _outcome(name: str, task: Task, method: Method, work: Path, *, run_it: bool) -> Outcome:
    out = work / "rows" / f"{task.name}--{re.sub(r'[^a-z0-9]+', '-', method.name.lower()).strip('-')}"
    told = out.with_suffix(".json")
    if told.exists():
        return _read(out)
    if not run_it:
        return Outcome({"method": method.name, "ours": method.ours, "left_out": True}, {})
    out.parent.mkdir(parents=True, exist_ok=True)
    command = (sys.executable, "-m", "benchmarks.quality.worker", name, task.name, method.name, work, out)
    try:
        measure(*command)
    except RuntimeError as error:
        print(f"{task.name}: {method.name} FAILED: {error}", file=sys.stderr, flush=True)
        return Outcome({"method": method.name, "ours": method.ours, "failed": "its process failed"}, {})
    outcome = _read(out)
    _say(task, outcome)
    return outcome


def _read(out: Path) -> Outcome:
    told = read_json(out.with_suffix(".json"))
    if "missing" in told:
        return Outcome(told, {})
    with np.load(out.with_suffix(".npz"), allow_pickle=False) as rows:
        return Outcome(told, dict(rows))


def _say(task: Task, outcome: Outcome) -> None:
    if outcome.why_not:
        print(f"{task.name}: {outcome.name} not run: {outcome.why_not}", flush=True)
        return
    means = ", ".join(
        f"{exam} {column} {np.nanmean(outcome.rows[f'{exam}/{column}']):.4f}"
        for exam in task.exams
        for column in task.columns
    )
    told = outcome.told
    print(
        f"{task.name}: {outcome.name}: {means} (tuned {told['tuning_seconds']:.0f} s, trained "
        f"{told['training_seconds']:.1f} s, {told['peak_mib']:,.0f} MiB) {told['setting']}",
        flush=True,
    )
