"""What a method gets to learn from, and what judges it. One object per data set and question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq
import scipy.sparse as sp

from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.data.histories import Behaviour, load_behaviour
from pipelines.rankers import Ranker


@dataclass(frozen=True, eq=False)
class View:
    """A dataset as rankers see it. `tag` (N,) is an item's first tag: MIND's subcategory."""

    folder: Path
    catalogue: Catalogue
    behaviour: Behaviour
    tag: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> View:
        dataset = Dataset.open(folder)
        catalogue = Catalogue.load(dataset)
        tags = pq.read_table(dataset.items, columns=["item_id", "tags"]).sort_by("item_id")["tags"].to_pylist()
        first = np.array([each[0] if each else "" for each in tags], dtype=object)
        return cls(folder, catalogue, load_behaviour(dataset, catalogue.ids), first)


@dataclass(frozen=True, eq=False)
class Training:
    """What may be learned from: the `positives` (E,) and the `requests` (R,) of a view, and every item's text."""

    view: View
    positives: np.ndarray
    requests: np.ndarray

    @classmethod
    def of_all(cls, view: View) -> Training:
        """Everything that a view holds."""
        return cls(view, np.ones(len(view.behaviour.interactions), bool), np.ones(len(view.behaviour.requests), bool))

    @cached_property
    def matrix(self) -> sp.csr_matrix:
        """(U, N) with 1 where a user wanted an item."""
        log = self.view.behaviour.interactions
        rows = np.flatnonzero(self.positives)
        shape = (len(log.user_ids), len(self.view.catalogue))
        matrix = sp.csr_matrix((np.ones(len(rows)), (log.user[rows], log.item[rows] - 1)), shape=shape)
        matrix.data[:] = 1.0
        return matrix

    def places(self, view: View) -> np.ndarray:
        """(N,) the row that each of this training's items has in the catalogue of `view`; -1 for none."""
        if view.catalogue is self.view.catalogue:
            return np.arange(len(view.catalogue))
        place = {item: row for row, item in enumerate(view.catalogue.ids)}
        return np.array([place.get(item, -1) for item in self.view.catalogue.ids], dtype=np.int64)

    def carry(self, values: np.ndarray, view: View, *, missing: float = 0.0) -> np.ndarray:
        """(N, ...) values of this training's items for the items of `view`; `missing` for those it does not know."""
        places = self.places(view)
        carried = np.full((len(view.catalogue), *values.shape[1:]), missing, dtype=np.float64)
        carried[places[places >= 0]] = values[places >= 0]
        return carried


class Judge(Protocol):
    """Ranks by a ranker and measures; `pipelines.judge.Slates` and `CatalogueTargets` are judges."""

    def metrics(self, ranker: Ranker) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True, eq=False)
class Exam:
    """Queries of a view, and their judge."""

    view: View
    judge: Judge


@dataclass(frozen=True)
class Fitted:
    """What a method has learned, ready to rank the items of any view; `validation` where it chose by one itself."""

    over: Callable[[View], Ranker]
    validation: float | None = None


@dataclass(frozen=True)
class Method:
    """Something that ranks. `grid` holds the settings that are tried on the folds; the best one is fitted again.

    Args:
        name: As it stands in the table.
        fit: From a training and settings to what was learned.
        grid: Values to try, by setting.
        ours: Whether it is one of the product's recipes.
    """

    name: str
    fit: Callable[..., Fitted]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    ours: bool = False

    def settings(self) -> list[dict[str, Any]]:
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]


@dataclass(frozen=True, eq=False)
class Task:
    """A question put to all methods alike.

    Args:
        name: Of the task, such as "ml100k-last".
        about: A sentence for the table: what trains, what is judged.
        metric: Chooses settings.
        columns: Metrics in the table.
        folds: Trainings and exams on which settings are chosen. They hold nothing of the exams below.
        training: What the chosen setting is fitted on.
        exams: The tests, by name.
    """

    name: str
    about: str
    metric: str
    columns: tuple[str, ...]
    folds: tuple[tuple[Training, Exam], ...]
    training: Training
    exams: Mapping[str, Exam]
