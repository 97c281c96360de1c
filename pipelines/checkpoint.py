"""The state of one fit on disk, so that training which was killed goes on as if it had not been."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import atomic_file
from pipelines.errors import BadInput

_HISTORY = "history"


@dataclass
class History:
    """What the epochs of a fit came to.

    Attributes:
        loss: Mean of a row, by epoch from 1.
        validation: Every metric, by epoch from 0 (untrained); empty where there is no validation part.
        seconds: By epoch from 1; says nothing about the model.
    """

    best_epoch: int = 0
    loss: list[float] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        return len(self.loss)

    def rows(self) -> list[dict[str, float]]:
        """What is known of each epoch, from 0 where that was judged, else from 1."""
        known: list[dict[str, float]] = [{"epoch": epoch} for epoch in range(self.epochs + 1)]
        for row, loss, seconds in zip(known[1:], self.loss, self.seconds, strict=True):
            row |= {"loss": loss, "seconds": seconds}
        for row, metrics in zip(known, self.validation, strict=False):
            row |= {f"validation {name}": value for name, value in metrics.items()}
        return known if self.validation else known[1:]


class Checkpoint:
    """One file, replaced as a whole after every epoch: a kill at any moment leaves the one before or the one after.

    It holds the model's variables, the states of its random generators among them, the optimizer's, the best weights
    and the history. Only a model built from the same recipe and data can take it.

    Args:
        path: Of the file, which need not be there.
        record: Told the history when it is read and when it is written.
    """

    def __init__(self, path: Path, record: Callable[[History], None] = lambda history: None) -> None:
        self.path, self._record = path, record

    def save(self, history: History, learner: Any, best_weights: Sequence[np.ndarray]) -> None:
        """Write the state after an epoch."""
        arrays = {f"variable{place}": value.numpy() for place, value in enumerate(_variables(learner))}
        arrays |= {f"best{place}": value for place, value in enumerate(best_weights)}
        arrays[_HISTORY] = np.frombuffer(json.dumps(asdict(history)).encode(), np.uint8)
        with atomic_file(self.path) as draft, draft.open("wb") as file:
            np.savez(file, **arrays)
        self._record(history)

    def load(self, learner: Any) -> tuple[History, list[np.ndarray]] | None:
        """Put a compiled learner, whose optimizer is built, into the saved state; returns history and best weights.

        None where nothing was saved.

        Raises:
            BadInput: The file is broken, or of another model.
        """
        if not self.path.exists():
            return None
        variables = _variables(learner)
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                history = History(**json.loads(saved[_HISTORY].tobytes()))
                values = [saved[f"variable{place}"] for place in range(len(variables))]
                best = [saved[f"best{place}"] for place in range(len(saved.files) - len(values) - 1)]
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile):
            raise BadInput(f"{self.path} cannot be read: remove its folder and train from the start.") from None
        if any(value.shape != tuple(variable.shape) for value, variable in zip(values, variables, strict=True)):
            raise BadInput(f"{self.path} is of another model: remove its folder and train from the start.")
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self._record(history)
        return history, best


def _variables(learner: Any) -> list[Any]:
    return [*learner.variables, *learner.optimizer.variables]
