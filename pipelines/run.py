"""A run folder: everything that is needed to use, judge or repeat a trained model."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipelines.artefacts import read_json
from pipelines.data.catalogue import Catalogue, list_places, places
from pipelines.data.dataset import Dataset
from pipelines.encode import encode, load_encoder, text_vectors
from pipelines.errors import BadInput
from pipelines.presets import fingerprint_of
from pipelines.recipe import Recipe

RECIPE = "recipe.yaml"
VOCABULARY = "vocabulary.json"
WEIGHTS = "model.weights.h5"
RANKER = "ranker.weights.h5"
METRICS = "metrics.json"
ORIGIN = "origin.json"
# Tags of an item that count, the first ones.
TAGS = 6
EVALUATION = "evaluation.json"
FILES = (ORIGIN, RECIPE, VOCABULARY, WEIGHTS, RANKER, METRICS, EVALUATION)


class Vocabulary(BaseModel):
    """The strings that the model has an embedding for; place i of a list is index i + 1, 0 is unknown."""

    model_config = ConfigDict(extra="forbid")

    categories: list[str]
    tags: list[str]
    languages: list[str]
    devices: list[str]
    items: list[str]


class Origin(BaseModel):
    """Where a run comes from."""

    model_config = ConfigDict(extra="forbid")

    dataset: str
    dataset_name: str
    first_at: str | None
    last_at: str | None
    versions: dict[str, str]
    platform: str


@dataclass(frozen=True)
class Run:
    """An opened run folder."""

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

    @cached_property
    def metrics(self) -> dict[str, Any]:
        return read_json(self.folder / METRICS)

    def model(self, catalogue: Catalogue) -> Any:
        """The trained `towers.two_tower.TwoTower` over the items of `catalogue`."""
        model = build_model(self.recipe, self.vocabulary, catalogue)
        try:
            model.load_weights(self.folder / WEIGHTS)
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.folder / WEIGHTS} cannot be read ({str(error)[:100]}): train it again.") from None
        if model.text_top is not None:
            encoder = model.text_top.encoder.value
            model.items.text.assign(text_table(catalogue.text, encoder, fingerprint_of(self.folder / WEIGHTS)))
        return model


def item_table(recipe: Recipe, vocabulary: Vocabulary, catalogue: Catalogue) -> Any:
    """The `towers.features.ItemTable` of a catalogue."""
    if recipe.features.text is not None:
        text = _padded(text_vectors(catalogue.text, recipe.features.text))
    else:
        text = np.zeros((len(catalogue) + 1, 0), np.float32)
    from towers.features import ItemTable

    return ItemTable.from_arrays(
        text,
        places(catalogue.category, vocabulary.categories),
        list_places(catalogue.tags, vocabulary.tags, TAGS),
        places(catalogue.language, vocabulary.languages),
        places(catalogue.ids, vocabulary.items),
    )


def text_table(texts: np.ndarray, encoder: Any, version: str) -> np.ndarray:
    """(N + 1, T) vectors of a catalogue by an encoder whose weights `version` names; row 0 is padding."""
    return _padded(encode(texts, encoder, version))


def _padded(vectors: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, vectors.shape[1]), np.float32), vectors])


def build_model(recipe: Recipe, vocabulary: Vocabulary, catalogue: Catalogue, *, train_projection: bool = True) -> Any:
    """A new, built `TwoTower` over the items of `catalogue`; its weights depend on the seed alone."""
    items = item_table(recipe, vocabulary, catalogue)
    from towers.behaviour import BehaviourTower
    from towers.content import ContentTower
    from towers.runtime import seed_everything
    from towers.two_tower import TwoTower

    seed_everything(recipe.training.seed)
    model = TwoTower(
        ContentTower(
            recipe.towers.width,
            use_text=recipe.features.text is not None,
            categories=len(vocabulary.categories) if recipe.features.category else 0,
            tags=len(vocabulary.tags) if recipe.features.tags else 0,
            languages=len(vocabulary.languages),
            items=len(vocabulary.items),
            train_projection=train_projection,
            dropout=recipe.towers.dropout,
            id_dropout=recipe.towers.id_dropout,
        ),
        BehaviourTower(
            encoder=recipe.towers.history_encoder,
            units=recipe.towers.history_units,
            layers=recipe.towers.history_layers,
            heads=recipe.towers.history_heads,
            languages=len(vocabulary.languages),
            devices=len(vocabulary.devices),
            time_of_day=recipe.features.time_of_day,
            scale=recipe.towers.scale,
            dropout=recipe.towers.history_dropout,
        ),
        items,
        text_top=text_top(recipe),
        in_batch_weight=recipe.training.in_batch_weight,
        shown_weight=recipe.training.shown_weight,
    )
    model.build({"history": (None, recipe.features.history)})
    return model


def text_top(recipe: Recipe) -> Any:
    """The `towers.finetuning.TextTop` of a recipe that fine-tunes, with its layers frozen; None for one that does not.

    Raises:
        BadInput: The schedule names a layer that the encoder does not have, or its layers cannot be thawed one by one.
    """
    if recipe.fine_tuning is None or recipe.features.text is None:
        return None
    encoder = load_encoder(recipe.features.text)
    from towers.finetuning import TextTop, check_split

    schedule = recipe.fine_tuning
    try:
        highest = max(schedule.stages[0].layers)
        if encoder.layers_count and highest != encoder.layers_count - 1:
            raise ValueError(
                f"the backbone has layers 0 to {encoder.layers_count - 1} and thaws from the top, not from {highest}"
            )
        top = TextTop(encoder, schedule.cut, lora_rank=schedule.lora_rank)
        check_split(encoder, schedule.cut)
    except ValueError as error:
        raise BadInput(f"fine_tuning cannot be done with {recipe.features.text.preset!r}: {error}.") from None
    top.thaw(None)
    return top


def origin_of(dataset: Dataset) -> Origin:
    """What a new run records about where it comes from."""
    packages = ("belfry", "tensorflow", "keras", "keras-hub", "tensorflow-recommenders", "numpy")
    return Origin(
        dataset=str(dataset.folder.resolve()),
        dataset_name=dataset.info.name,
        first_at=str(dataset.info.first_at),
        last_at=str(dataset.info.last_at),
        versions={name: importlib.metadata.version(name) for name in packages},
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )
