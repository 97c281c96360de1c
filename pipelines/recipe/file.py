"""The whole recipe, and its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from pipelines.errors import BadInput
from pipelines.recipe.adaptation import Adaptation
from pipelines.recipe.audit import Audit
from pipelines.recipe.augmentation import Augmentation
from pipelines.recipe.balance import Balance
from pipelines.recipe.inputs import Data, Features
from pipelines.recipe.learning import FineTuning, ImageTuning, Training
from pipelines.recipe.model import Ensemble, Export, Ranking, Towers
from pipelines.recipe.retraining import Retraining
from pipelines.recipe.search import Search
from pipelines.recipe.section import Section
from pipelines.recipe.self_training import SelfTraining


class _Loader(yaml.SafeLoader):
    """YAML as people write it: `1e-4` is a number, and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} stands twice")
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 1e-4 for text, since it has no point.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class Recipe(Section):
    """Data, features, towers, training, ranking, export, retraining and search of a run. An unknown key is an error.

    Args:
        data: Split, what an example is, which histories count.
        audit: Limits of `belfry data audit`.
        features: What the towers are given: text, image, category, tags, language, device, time of day, id, history.
        towers: Their sizes, the history encoder, dropout.
        fine_tuning, image_tuning: Which layers of an encoder are thawed when, and how fast they learn; None keeps them.
        training: Losses, optimizer, epochs, seed.
        balance, augmentation, adaptation, self_training, ensemble, ranking: Further steps; None is without.
        export, retraining: Of the served model.
        search: What `tune` tries: lists of values, or ranges, by path.

    Raises:
        BadInput: Of `load`, `shipped` and `changed`: one sentence names the key and says what is wrong.

    Example:
        >>> from pipelines import Recipe
        >>> recipe = Recipe.shipped("ids").changed({"towers.width": 16, "training.epochs": 2})
        >>> recipe.towers.width, recipe.features.text
        (16, None)
        >>> thawing = {"stages": [{"epoch": 2, "layers": [5]}], "learning_rate": 2e-5}
        >>> Recipe.shipped("text").changed({"fine_tuning": thawing}).fine_tuning.cut
        5
        >>> sorted(Recipe().changed({"search": {"towers.width": [16, 32]}}).search)
        ['towers.width']
    """

    data: Data = Data()
    audit: Audit = Audit()
    features: Features = Features()
    towers: Towers = Towers()
    fine_tuning: FineTuning | None = None
    image_tuning: ImageTuning | None = None
    training: Training = Training()
    balance: Balance | None = None
    augmentation: Augmentation | None = None
    adaptation: Adaptation | None = None
    self_training: SelfTraining | None = None
    ensemble: Ensemble | None = None
    ranking: Ranking | None = None
    export: Export = Export()
    retraining: Retraining = Retraining()
    search: Search = Field({}, description="what `belfry tune` tries; a recipe has a search space of its own")

    @model_validator(mode="after")
    def _schedule_trains(self) -> Recipe:
        text = self.features.text
        if text is not None and text.pooling == "attention" and self.fine_tuning is None:
            raise ValueError("features.text.pooling: attention is learned, so it needs fine_tuning")
        if self.fine_tuning is not None:
            if text is None:
                raise ValueError("fine_tuning needs features.text")
            if text.fields == "separate":
                raise ValueError("fine_tuning encodes one text an item: set features.text.fields to joined or title")
            self._check_epoch("fine_tuning", self.fine_tuning.stages[-1].epoch)
        if self.image_tuning is not None:
            if self.features.image is None:
                raise ValueError("image_tuning needs features.image")
            self._check_epoch("image_tuning", self.image_tuning.epoch)
        if self.ensemble is not None and self.ensemble.linear is not None and self.ranking is not None:
            raise ValueError("ensemble.linear ranks by itself: leave ranking out")
        for by in sorted(self.ensemble.slices & {"language", "device"}) if self.ensemble else ():
            if not getattr(self.features, by):
                raise ValueError(f"an ensemble by {by} needs features.{by}")
        return self

    @model_validator(mode="after")
    def _views_can_be_made(self) -> Recipe:
        """Views of items are vectors made once, which an encoder that is trained would leave behind."""
        text = self.features.text
        views = self.augmentation.text if self.augmentation is not None else None
        tuned = [name for name in ("fine_tuning", "image_tuning") if getattr(self, name) is not None]
        if self.balance is not None and self.balance.synthetic is not None:
            if text is None:
                raise ValueError("balance.synthetic makes text vectors, so it needs features.text")
            if tuned:
                raise ValueError(f"balance.synthetic needs frozen encoders: leave it or {tuned[0]} out")
        if views is None:
            return self
        if text is None:
            raise ValueError("augmentation.text needs features.text")
        if views.swap_fields and text.fields == "title":
            raise ValueError("augmentation.text.swap_fields needs title and body: set features.text.fields to joined")
        if self.fine_tuning is not None and (views.swap_fields or views.views is not None):
            raise ValueError("with fine_tuning, augmentation.text drops tokens alone: leave views and swap_fields out")
        if self.fine_tuning is None and tuned:
            raise ValueError("augmentation.text needs frozen encoders: leave it or image_tuning out")
        return self

    @property
    def adapts(self) -> bool:
        """Whether a domain head is trained."""
        return self.adaptation is not None and self.adaptation.weight > 0

    def _check_epoch(self, section: str, last: int) -> None:
        if last > self.training.epochs:
            raise ValueError(f"{section} thaws layers in epoch {last}, but training.epochs is {self.training.epochs}")

    @classmethod
    def load(cls, path: Path | str) -> Recipe:
        """Read a YAML file.

        Raises:
            BadInput: Not YAML, an unknown key, or a value of the wrong type or out of range; the sentence names it.
        """
        path = Path(path)
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        except FileNotFoundError:
            raise BadInput(f"the recipe {path} does not exist.") from None
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            detail = " ".join(str(error).split())
            raise BadInput(f"the recipe {path} is not a YAML file that can be read ({detail}).") from None
        if not isinstance(content, dict | None):
            raise BadInput(f"the recipe {path} must hold sections such as `towers:`, not a {type(content).__name__}.")
        try:
            return cls.model_validate(content or {})
        except ValidationError as error:
            raise BadInput(f"the recipe {path} cannot be used: {_first(error)}.") from None

    @classmethod
    def shipped(cls, name: str) -> Recipe:
        """A recipe that comes with Belfry, such as "demo"; its file says what it is for and what to expect.

        Raises:
            BadInput: There is none of that name; the sentence lists them.
        """
        from recipes import names, shipped

        if name not in names():
            raise BadInput(f"there is no recipe {name!r} among those shipped: choose {', '.join(names())}.")
        return cls.load(shipped(name))

    def changed(self, values: Mapping[str, Any]) -> Recipe:
        """This recipe with other values at some paths, such as `towers.width`; without its search.

        A path may name a whole section, such as `fine_tuning`, and `search`, which is then the new recipe's.

        Raises:
            BadInput: A path leads nowhere, or the recipe would not be valid; the sentence says why.
        """
        content = self.model_dump(exclude={"search"})
        for path, value in values.items():
            if path == "search":
                content[path] = value
                continue
            *sections, key = path.split(".")
            place: Any = content
            for name in sections:
                place = place.get(name) if isinstance(place, dict) else None
            if not isinstance(place, dict) or key not in place:
                raise BadInput(f"{path} is not in the recipe: a path is a key's name after its sections'.")
            place[key] = value
        try:
            return Recipe.model_validate(content)
        except ValidationError as error:
            raise BadInput(f"{_first(error)}.") from None

    def dump(self) -> str:
        """The resolved recipe as YAML, defaults included."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False)


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    where = ".".join(str(part) for part in found["loc"]) or "the whole"
    what = "is not a known key" if found["type"] == "extra_forbidden" else found["msg"][0].lower() + found["msg"][1:]
    more = len(error.errors()) - 1
    return (
        f"{where} {what}"
        if found["type"] == "extra_forbidden"
        else f"{where}: {what}" + (f" (and {more} more)" if more else "")
    )
