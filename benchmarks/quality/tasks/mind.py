"""MIND: six days of impressions train, the day after is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.quality.protocol import Exam, Task, Training, View
from benchmarks.quality.sources import source
from pipelines.data.sources.mind import import_mind
from pipelines.judge import Slates

_PARTS = ("train", "dev", "dev-natural")
_DAY = 86_400


def prepare(work: Path) -> None:
    folder = source("mind-mini")
    for part in _PARTS:
        import_mind(folder / part, work / part)


def load(work: Path) -> list[Task]:
    train, dev, natural = (View.load(work / part) for part in _PARTS)
    return [
        Task(
            name="mind",
            about=(
                "MIND, trained on impressions of 9 to 14 November 2019, judged on those of 15 November; shown items "
                "without text are left out. Settings of the peers are chosen by cross-validation by day within the "
                "training part; `dev-natural` has whole candidate lists, but only 98 of them."
            ),
            metric="auc",
            columns=("auc", "mrr", "ndcg@5", "ndcg@10"),
            folds=tuple(_folds(train)),
            training=Training.of_all(train),
            exams={"dev": _exam(dev), "dev-natural": _exam(natural)},
        )
    ]


def day_of(view: View) -> np.ndarray:
    """(R,) the day of each request."""
    return view.behaviour.requests.at // _DAY


def _exam(view: View) -> Exam:
    return Exam(view, Slates.of(view.behaviour, np.ones(len(view.behaviour.requests), bool), known_only=True))


def _folds(view: View) -> list[tuple[Training, Exam]]:
    behaviour, day = view.behaviour, day_of(view)
    of_positive = np.where(behaviour.interactions.request >= 0, day[behaviour.interactions.request], -1)
    return [
        (
            Training(view, of_positive != judged, day != judged),
            Exam(view, Slates.of(behaviour, day == judged, known_only=True)),
        )
        for judged in np.unique(day)
    ]
