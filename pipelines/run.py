"""A run folder: everything that is needed to use, judge or repeat a trained model."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipelines.artefacts import read_json
from pipelines.build import build_model
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.image_vectors import image_table
from pipelines.item_table import text_table
from pipelines.members import Members, build_ensemble
from pipelines.presets import fingerprint, fingerprint_of, locate_preset
from pipelines.recipe import Recipe
from pipelines.vocabulary import Vocabulary

RECIPE = "recipe.yaml"
VOCABULARY = "vocabulary.json"
WEIGHTS = "model.weights.h5"
MEMBERS = "members.json"
RANKER = "ranker.weights.h5"
METRICS = "metrics.json"
ORIGIN = "origin.json"
EVALUATION = "evaluation.json"
EVALUATION_PAGE = "evaluation.html"
LOGS = "logs"
HISTORY = "history.csv"
REPORT = "report.html"
FILES = (
    *(ORIGIN, RECIPE, VOCABULARY, MEMBERS, WEIGHTS, RANKER, METRICS, LOGS, HISTORY, REPORT),
    *(EVALUATION, EVALUATION_PAGE),
)

# What a resumed run must share with its beginning.
_SHARED = {
    "recipe": "recipe",
    "data": "data",
    "encoders": "weights of an encoder",
    "warm_start": "weights to begin with",
    "versions": "versions of packages",
}


class Origin(BaseModel):
    """Where a run comes from."""

    model_config = ConfigDict(extra="forbid")

    dataset: str
    dataset_name: str
    data: str = Field("", description="fingerprint of the dataset's tables")
    recipe: str = Field("", description="fingerprint of the recipe as it was given")
    encoders: str = Field("", description="fingerprints of the presets' weights; empty for none, or an older run")
    warm_start: str = Field("", description="fingerprint of the weights that training began with; empty for new ones")
    first_at: str | None
    last_at: str | None
    versions: dict[str, str]
    platform: str

    def difference(self, other: Origin) -> str | None:
        """What another origin has that would give other metrics, in words; None for nothing."""
        for field, what in _SHARED.items():
            if getattr(self, field) != getattr(other, field):
                return what
        return None


@dataclass(frozen=True)
class Run:
    """An opened run folder.

    Args:
        folder: Where it is.
        recipe: As it was resolved.
        vocabulary: Of ids, categories, tags, languages and devices.
        origin: Dataset, recipe, package versions and platform that it is from.

    Example:
        >>> from pipelines import Run
        >>> run = Run.open("run")
        >>> run.recipe.towers.width, len(run.vocabulary.items) <= 250
        (8, True)
        >>> [(row["fit"], row["epoch"]) for row in run.history()]
        [('towers', 0), ('towers', 1), ('towers', 2)]
    """

    folder: Path
    recipe: Recipe
    vocabulary: Vocabulary
    origin: Origin

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Open a run.

        Raises:
            BadInput: Not a run folder, or one of its files is missing or broken.
        """
        folder = Path(folder)
        if not (folder / RECIPE).exists():
            raise BadInput(f"{folder} is not a run (it has no {RECIPE}): make one with `belfry train`.")
        if not (folder / WEIGHTS).exists():
            raise BadInput(f"{folder} has no {WEIGHTS}: train it again.")
        try:
            vocabulary = Vocabulary.model_validate(read_json(folder / VOCABULARY))
            origin = Origin.model_validate(read_json(folder / ORIGIN))
        except ValueError as error:
            raise BadInput(f"{folder} cannot be read ({str(error).splitlines()[0]}): train it again.") from None
        return cls(folder, Recipe.load(folder / RECIPE), vocabulary, origin)

    def training_data(self) -> Dataset:
        """The dataset that the run was trained on.

        Raises:
            BadInput: It is no longer where it was.
        """
        try:
            return Dataset.open(self.origin.dataset)
        except BadInput:
            raise BadInput(
                f"the dataset that {self.folder} was trained on is no longer at {self.origin.dataset}: "
                "name one with --data."
            ) from None

    def was_trained_on(self, dataset: Dataset) -> bool:
        """Whether it is still the dataset that the run was trained on, table by table."""
        return dataset.fingerprint() == self.origin.data

    @cached_property
    def fingerprint(self) -> str:
        """A short name for its exact weights."""
        return fingerprint_of(self.folder / WEIGHTS)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What training said: the epoch kept, losses, the validation metric by epoch, and what was added."""
        return read_json(self.folder / METRICS)

    def history(self) -> list[dict[str, Any]]:
        """A row for each fit and epoch, for plotting: `fit` (such as towers), `epoch` from 0, and its figures.

        Epoch 0 is the untrained model, which has no loss. A figure that an epoch has not is None.

        Raises:
            BadInput: The run has no such file, or it is broken.
        """
        try:
            with (self.folder / HISTORY).open(newline="", encoding="utf-8") as file:
                return [{name: _figure(name, value) for name, value in row.items()} for row in csv.DictReader(file)]
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.folder / HISTORY} cannot be read ({error}): train it again.") from None

    def model(self, catalogue: Catalogue) -> Any:
        """The trained `towers.two_tower.TwoTower` over the items of `catalogue`.

        Raises:
            BadInput: Its weights cannot be read, or a preset has other weights than when it was trained.
        """
        if self.origin.encoders and _encoders(self.recipe) != self.origin.encoders:
            presets = " or ".join(_presets(self.recipe))
            raise BadInput(
                f"{presets} has other weights than {self.folder} was trained on: bring those back, or train it again."
            )
        model = build_model(self.recipe, self.vocabulary, catalogue)
        if self.recipe.ensemble is not None:
            members = Members.model_validate(read_json(self.folder / MEMBERS))
            model = build_ensemble(self.recipe, self.vocabulary, members, model).model
        try:
            model.load_weights(self.folder / WEIGHTS)
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.folder / WEIGHTS} cannot be read ({str(error)[:100]}): train it again.") from None
        version = self.fingerprint
        if model.text_top is not None and self.recipe.features.text is not None:
            encoder = model.text_top.encoder.value
            model.items.text.assign(text_table(catalogue, self.recipe.features.text, encoder, version))
        if model.image_encoder is not None:
            model.items.image.assign(image_table(catalogue.images, model.image_encoder, version))
        return model


def _figure(name: str, value: str) -> str | int | float | None:
    if name == "fit":
        return value
    return None if value == "" else int(value) if name == "epoch" else float(value)


def _presets(recipe: Recipe) -> list[str]:
    return [part.preset for part in (recipe.features.text, recipe.features.image) if part is not None]


def _encoders(recipe: Recipe) -> str:
    return " ".join(fingerprint(locate_preset(preset)) for preset in _presets(recipe))


def origin_of(recipe: Recipe, dataset: Dataset, warm_start: Run | None = None) -> Origin:
    """What a new run records about where it comes from."""
    packages = ("belfry", "tensorflow", "keras", "keras-hub", "tensorflow-recommenders", "numpy")
    return Origin(
        dataset=str(dataset.folder.resolve()),
        dataset_name=dataset.info.name,
        data=dataset.fingerprint(),
        recipe=hashlib.sha256(recipe.dump().encode()).hexdigest()[:16],
        encoders=_encoders(recipe),
        warm_start=warm_start.fingerprint if warm_start else "",
        first_at=str(dataset.info.first_at),
        last_at=str(dataset.info.last_at),
        versions={name: importlib.metadata.version(name) for name in packages},
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )
