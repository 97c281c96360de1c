"""The optimizer of a training run, and what it is to know of from the start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from pipelines.recipe import Recipe


class Tuner(Protocol):
    """Trains an encoder, or a part of one, while the two-tower model trains."""

    def thaw(self, thawed: bool) -> None:
        """Make all that is ever trained trainable, or freeze it."""

    def begin(self, epoch: int) -> None:
        """Thaw what the schedule thaws in this epoch."""

    def add_to(self, batch: dict[str, np.ndarray], rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """The batch with what its step encodes, varied where `rng` is given."""

    def end(self) -> None:
        """Renew the vectors of all items after an epoch."""

    def restore(self, epoch: int) -> None:
        """With the weights of an epoch's end loaded, be as `end` left it: thawed, and the items' vectors renewed."""

    def renew(self) -> None:
        """Encode all items with the weights as they are."""


def ever_trained(model: Any, tuners: Sequence[Tuner]) -> list[Any]:
    """All weights that are trained at some time: an optimizer must know them from the start."""
    for tuner in tuners:
        tuner.thaw(True)
    found = list(model.trainable_variables)
    for tuner in tuners:
        tuner.thaw(False)
    return found


def optimizer_for(recipe: Recipe, learner: Any) -> Any:
    """AdamW as the recipe has it, with the encoders' layers and the domain head at their own learning rates."""
    from towers.finetuning import LayerwiseAdamW, layer_factors

    settings, factors, model = recipe.training, dict[str, float](), learner
    if recipe.adaptation is not None and recipe.adapts:
        model = learner.towers
        factor = recipe.adaptation.learning_rate / settings.learning_rate
        factors |= {weight.path: factor for weight in learner.head.weights}
    # A specialist of an ensemble has no encoder of its own to tune.
    schedule = recipe.fine_tuning if model.text_top is not None else None
    if schedule is not None:
        factors |= layer_factors(model.text_top, schedule.learning_rate / settings.learning_rate, schedule.decay)
    if recipe.image_tuning is not None and model.image_encoder is not None:
        factor = recipe.image_tuning.learning_rate / settings.learning_rate
        factors |= {weight.path: factor for weight in model.image_encoder.weights}
    return LayerwiseAdamW(
        settings.learning_rate,
        warmup_steps=schedule.warmup_steps if schedule else 0,
        factor=lambda path: factors.get(path, 1.0),
        weight_decay=settings.weight_decay,
        without_decay=("bias", "scale", "coefficients", "gamma", "beta"),
    )
