"""A news portal's clicks without text: the next click of a session on the last day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.quality.protocol import Exam, Task, Training, View
from benchmarks.quality.sources import source
from benchmarks.quality.tasks.parts import SEED, write_events
from pipelines.data.dataset import Dataset
from pipelines.data.sources.table import import_table
from pipelines.judge import CatalogueTargets

_DAY = 86_400
_QUERIES = 5000
_SESSION_GAP = 30 * 60


def prepare(work: Path) -> None:
    folder = source("globo")
    import_table(folder / "clicks.parquet", work / "all")
    dataset = Dataset.open(work / "all")
    events = pq.read_table(dataset.events)
    cut = _cuts(events["at"].cast(pa.int64()).to_numpy() // 1_000_000)[1]
    before = pc.less(events["at"].cast(pa.int64()), int(cut) * 1_000_000)
    write_events(dataset, work / "before", events.filter(before))


def _cuts(at: np.ndarray) -> tuple[int, int, int]:
    """Beginning of the last two whole days of the log, and its end."""
    end = int(at.max()) + 1
    return end - 2 * _DAY, end - _DAY, end


def load(work: Path) -> list[Task]:
    view = View.load(work / "all")
    at = view.behaviour.interactions.at
    first, second, end = _cuts(at)
    return [
        Task(
            name="globo",
            about=(
                f"Clicks of a news portal, trained on all before the last 24 hours, judged on {_QUERIES:,} random "
                "clicks of those that follow another of the same user within half an hour, among all articles that the "
                "user has not read. What a ranker may see of the last day are the clicks before each moment. Settings "
                "are chosen on the 24 hours before, by what came before those."
            ),
            metric="ndcg@10",
            columns=("recall@10", "ndcg@10", "recall@100"),
            folds=((_before(view, first), _day(view, first, second)),),
            training=_before(view, second),
            exams={"last day": _day(view, second, end)},
        )
    ]


def _before(view: View, moment: int) -> Training:
    return Training(view, view.behaviour.interactions.at < moment, np.zeros(0, bool))


def _day(view: View, start: int, end: int) -> Exam:
    log = view.behaviour.interactions
    follows = np.r_[False, (log.user[1:] == log.user[:-1]) & (log.at[1:] - log.at[:-1] <= _SESSION_GAP)]
    chosen = follows & (log.at >= start) & (log.at < end)
    return Exam(view, CatalogueTargets.of(view.behaviour, view.catalogue, chosen, most=_QUERIES, seed=SEED))
