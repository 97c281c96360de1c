"""The data sets and what is asked on each. `prepare` imports files once; `load` makes the tasks from what it wrote.

Both run in every process alike, so all methods see the same splits: everything random is drawn with `SEED`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.protocol import Task
from benchmarks.quality.tasks import articles, globo, mind, movielens


@dataclass(frozen=True)
class DataSet:
    """A data set: from its files to a folder of datasets, and from those to tasks."""

    prepare: Callable[[Path], None]
    load: Callable[[Path], list[Task]]


DATA_SETS = {
    "mind": DataSet(mind.prepare, mind.load),
    "ml100k": DataSet(movielens.prepare, movielens.load),
    "ibm": DataSet(articles.prepare, articles.load),
    "globo": DataSet(globo.prepare, globo.load),
}
