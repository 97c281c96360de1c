"""What a search has come to, in one file that is replaced as a whole: a kill at any moment loses no finished trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.artefacts import read_json, write_json
from pipelines.errors import BadInput
from pipelines.tuning.oracle import Algorithm


class Trial(BaseModel):
    """A trial as the table shows it.

    Attributes:
        values: By path in the recipe.
        epochs: That Hyperband gave it, or None.
        continues: The trial from whose state it went on, or None.
        score: Of the best epoch, on the validation part.
        lead: Over the recipe as it was, on the same rows: mean and the ends of its 95 % interval.
        same_as: The trial of which it is a copy, the recipe as it was being -1.
    """

    model_config = ConfigDict(extra="forbid")

    number: int
    values: dict[str, Any]
    epochs: int | None = None
    continues: int | None = None
    status: Literal["running", "completed", "failed"] = "running"
    message: str = ""
    score: float | None = None
    lead: tuple[float, float, float] | None = None
    metrics: dict[str, float] = {}
    by_epoch: list[float] = []
    best_epoch: int | None = None
    seconds: float = 0.0
    same_as: int | None = None

    @property
    def value(self) -> float:
        """The score of a completed trial."""
        assert self.score is not None
        return self.score


class Journal(BaseModel):
    """The whole of a search.

    Attributes:
        metric: That chooses.
        default: The recipe as it was, trial -1.
        events: What the oracle was asked and told, in order.
    """

    model_config = ConfigDict(extra="forbid")

    algorithm: Algorithm
    seed: int
    metric: str = ""
    default: Trial | None = None
    trials: list[Trial] = []
    events: list[dict[str, Any]] = []

    @classmethod
    def read(cls, path: Path, algorithm: Algorithm, seed: int) -> Journal:
        """An earlier search, or a new one where there is none.

        Raises:
            BadInput: The earlier one is another, or cannot be read.
        """
        if not path.exists():
            return cls(algorithm=algorithm, seed=seed)
        try:
            found = cls.model_validate(read_json(path))
        except ValidationError as error:
            raise BadInput(f"{path} cannot be read ({str(error).splitlines()[0]}): start the search anew.") from None
        if (found.algorithm, found.seed) != (algorithm, seed):
            raise BadInput(
                f"that search is {found.algorithm} with seed {found.seed}: go on with these, or give another --out."
            )
        return found

    def write(self, path: Path) -> None:
        """Replace the file."""
        write_json(path, self.model_dump())

    @property
    def baseline(self) -> Trial:
        """`default`, which every search begins with."""
        assert self.default is not None
        return self.default

    @property
    def completed(self) -> list[Trial]:
        """Those that have a score, best first; of equals the first."""
        done = [trial for trial in self.trials if trial.status == "completed"]
        return sorted(done, key=lambda trial: -trial.value)

    def count(self, status: str) -> int:
        """How many trials are so."""
        return sum(trial.status == status for trial in self.trials)
