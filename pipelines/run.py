"""A run folder: everything that is needed to use, judge or repeat a trained model."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.artefacts import read_json
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.encode import load_encoder
from pipelines.errors import BadInput
from pipelines.image_vectors import image_table, load_image_encoder
from pipelines.item_table import item_table, text_table
from pipelines.presets import fingerprint_of
from pipelines.recipe import Recipe
from pipelines.vocabulary import Vocabulary

RECIPE = "recipe.yaml"
VOCABULARY = "vocabulary.json"
WEIGHTS = "model.weights.h5"
RANKER = "ranker.weights.h5"
METRICS = "metrics.json"
ORIGIN = "origin.json"
EVALUATION = "evaluation.json"
FILES = (ORIGIN, RECIPE, VOCABULARY, WEIGHTS, RANKER, METRICS, EVALUATION)


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
        version = fingerprint_of(self.folder / WEIGHTS)
        if model.text_top is not None and self.recipe.features.text is not None:
            encoder = model.text_top.encoder.value
            model.items.text.assign(text_table(catalogue, self.recipe.features.text, encoder, version))
        if model.image_encoder is not None:
            model.items.image.assign(image_table(catalogue.images, model.image_encoder, version))
        return model


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
            use_image=recipe.features.image is not None,
            fields=2 if recipe.features.text is not None and recipe.features.text.fields == "separate" else 1,
            categories=len(vocabulary.categories) if recipe.features.category else 0,
            tags=len(vocabulary.tags) if recipe.features.tags else 0,
            languages=len(vocabulary.languages),
            items=len(vocabulary.items),
            train_projection=train_projection,
            dropout=recipe.towers.dropout,
            id_dropout=recipe.towers.id_dropout,
            hidden=recipe.towers.hidden,
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
        image_encoder=_image_encoder(recipe),
        in_batch_weight=recipe.training.in_batch_weight,
        shown_weight=recipe.training.shown_weight,
        catalogue_weight=recipe.training.catalogue_weight,
        hard_negatives=recipe.training.hard_negatives,
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


def _image_encoder(recipe: Recipe) -> Any:
    """The `towers.image.ImageEncoder` of a recipe that fine-tunes it, frozen; None for one that does not."""
    if recipe.image_tuning is None or recipe.features.image is None:
        return None
    encoder = load_image_encoder(recipe.features.image, recipe.image_tuning)
    encoder.thaw(False)
    return encoder


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
