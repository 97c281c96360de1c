"""Who is in an ensemble, and the model that they make together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.build import build_towers, two_tower
from pipelines.recipe import Ensemble, Linear, Recipe
from pipelines.vocabulary import Vocabulary


class Members(BaseModel):
    """Who is in an ensemble beside the towers themselves, in this order."""

    model_config = ConfigDict(extra="forbid")

    specialists: list[str]
    linear: bool

    @property
    def names(self) -> list[str]:
        return ["towers", *self.specialists, *(["linear"] if self.linear else [])]


@dataclass(frozen=True)
class Built:
    """An ensemble and its parts; `model` is a `towers.two_tower.TwoTower`."""

    model: Any
    specialists: list[Any]
    linear: tuple[Any, Any] | None


def build_ensemble(recipe: Recipe, vocabulary: Vocabulary, members: Members, model: Any) -> Built:
    """The ensemble of the two-tower `model` and new members without weights."""
    from towers.ensemble import EnsembleBehaviour, EnsembleContent
    from towers.linear import LinearHistory, LinearItems

    settings = settings_of(recipe)
    pairs = [
        build_towers(recipe, vocabulary, train_projection=model.content.train_projection) for _ in members.specialists
    ]
    specialists = [two_tower(recipe, *pair, model.items) for pair in pairs]
    linear = None
    if members.linear and settings.linear is not None:
        rank = linear_rank(settings.linear, len(vocabulary.items))
        linear = LinearItems(len(vocabulary.items), rank), LinearHistory(rank)
    sides = [(model.content, model.behaviour), *pairs, *([linear] if linear else [])]
    by_user = settings.weights if settings.weights in ("language", "device") else None
    slices = slices_of(settings.weights, vocabulary)
    content = EnsembleContent(
        [side[0] for side in sides], categories=slices if settings.weights == "category" else None
    )
    behaviour = EnsembleBehaviour(
        [side[1] for side in sides], content.widths, by=by_user, slices=slices if by_user else 0
    )
    whole = two_tower(
        recipe, content, behaviour, model.items, text_top=model.text_top, image_encoder=model.image_encoder
    )
    return Built(whole, specialists, linear)


def slices_of(by: str, vocabulary: Vocabulary) -> int:
    """Size of the vocabulary that weights go by."""
    return {
        "all": 0,
        "language": len(vocabulary.languages),
        "device": len(vocabulary.devices),
        "category": len(vocabulary.categories),
    }[by]


def settings_of(recipe: Recipe) -> Ensemble:
    assert recipe.ensemble is not None
    return recipe.ensemble


def linear_rank(settings: Linear, vocabulary: int) -> int:
    """K: what the settings allow, of what the vocabulary has."""
    return min(settings.rank, settings.items, vocabulary)
