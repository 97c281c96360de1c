"""Trains a two-tower model epoch by epoch and keeps the best weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.data.domains import DomainItems
from pipelines.data.examples import TrainingExamples
from pipelines.data.splits import Part
from pipelines.epoch import train_epoch
from pipelines.errors import BadInput
from pipelines.judge import CatalogueTargets, Slates
from pipelines.model_ranker import ModelRanker
from pipelines.optimizer import Tuner, ever_trained, optimizer_for
from pipelines.prepare import Prepared
from pipelines.progress import say
from pipelines.rankers import Ranker
from pipelines.recipe import Recipe

VALIDATION_QUERIES = 2000


def training_examples(recipe: Recipe, data: Prepared, among: np.ndarray | None = None) -> TrainingExamples:
    """The positives that a recipe trains on; `among` (E,) bool are those that come into question."""
    chosen = data.parts.interactions == Part.TRAIN
    if data.on_requests:
        chosen &= data.behaviour.interactions.request >= 0
    if among is not None:
        chosen &= among
    settings = recipe.training
    return TrainingExamples(
        data.behaviour,
        data.window,
        chosen,
        items=len(data.catalogue),
        batch_size=settings.batch_size,
        shown_negatives=settings.shown_negatives,
        max_per_user=settings.max_examples_per_user,
        seed=settings.seed,
        histories=recipe.data.histories,
        dwell_power=settings.dwell_power,
        event_dropout=settings.event_dropout,
        whole_catalogue=settings.catalogue_weight > 0,
        domains=DomainItems.of(data.catalogue, recipe.adaptation) if recipe.adaptation and recipe.adapts else None,
    )


@dataclass(frozen=True)
class Validation:
    """What chooses the epoch: mean AUC of the slates, else nDCG@10 over the catalogue, every user alike."""

    name: str
    judge: Slates | CatalogueTargets

    @classmethod
    def of(
        cls, data: Prepared, seed: int, among: np.ndarray | None = None, *, most: int = VALIDATION_QUERIES
    ) -> Validation | None:
        """Of the validation part, as far as its examples are `among` (R,) or (E,) bool; None where there is none.

        Args:
            most: Queries against the catalogue, drawn with `seed`.
        """
        part = data.parts.requests if data.on_requests else data.parts.interactions
        chosen = part == Part.VALIDATION
        if among is not None:
            chosen &= among
        if data.on_requests:
            slates = Slates.of(data.behaviour, chosen, known_only=True)
            return cls("auc", slates) if np.isfinite(_constant(slates)).any() else None
        targets = CatalogueTargets.of(data.behaviour, data.catalogue, chosen, most=most, seed=seed)
        return cls("ndcg@10", targets) if len(targets.queries) else None

    def measure(self, ranker: Ranker) -> float:
        values = self.judge.metrics(ranker)[self.name]
        if isinstance(self.judge, CatalogueTargets):
            # Else those who read most would choose for all.
            place = np.unique(self.judge.queries.user, return_inverse=True)[1]
            values = np.bincount(place, values) / np.bincount(place)
        return float(np.nanmean(values))


def _constant(slates: Slates) -> np.ndarray:
    """Which slates have both a click and an item left alone: their AUC under no ranking at all."""
    from pipelines.metrics import slate_metrics

    return slate_metrics(slates.offsets, np.zeros(len(slates.item)), slates.clicked, slates.tie_break)["auc"]


def fit(
    model: Any,
    recipe: Recipe,
    examples: TrainingExamples,
    data: Prepared,
    validation: Validation | None,
    tuners: Sequence[Tuner],
    *,
    epochs: int,
) -> dict[str, Any]:
    settings = recipe.training
    learner = model if examples.domains is None else _adapted(model, recipe, examples.domains)
    optimizer = optimizer_for(recipe, learner)
    optimizer.build(ever_trained(learner, tuners))
    learner.compile(optimizer=optimizer, jit_compile=False)
    before = model.get_weights()
    best_epoch, best, best_weights = 0, 0.0, before
    losses: list[float] = []
    scores: list[float] = []
    if validation:
        best = validation.measure(ModelRanker(model, data.window))
        scores.append(best)
        say(f"epoch 0 (untrained): validation {validation.name} {best:.4f}")
    for epoch in range(1, epochs + 1):
        losses.append(train_epoch(learner, examples, tuners, epoch, epochs))
        if not np.isfinite(losses[-1]):
            raise BadInput(
                f"training diverged in epoch {epoch} (the loss is not finite): lower training.learning_rate."
            )
        if not validation:
            best_epoch, best_weights = epoch, model.get_weights()
            say(f"epoch {epoch}: loss {losses[-1]:.4f}")
            continue
        scores.append(validation.measure(ModelRanker(model, data.window)))
        say(f"epoch {epoch}: loss {losses[-1]:.4f}, validation {validation.name} {scores[-1]:.4f}")
        if scores[-1] > best:
            best_epoch, best, best_weights = epoch, scores[-1], model.get_weights()
        elif epoch - best_epoch >= settings.patience and not _thaws_later(recipe, epoch):
            say(f"no better for {settings.patience} epochs: the weights of epoch {best_epoch} are kept")
            break
    if epochs and all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)):
        raise AssertionError("training ran, but no weight has moved")
    model.set_weights(best_weights)
    for tuner in tuners:
        tuner.renew()
    return {
        "best_epoch": best_epoch,
        "epochs": len(losses),
        "loss": losses,
        "validation": {"metric": validation.name, "by_epoch": scores} if validation else None,
    }


def _adapted(model: Any, recipe: Recipe, domains: DomainItems) -> Any:
    """The model with a domain head, which learns with it and is left behind."""
    from towers.adaptation import Adapted, DomainHead

    settings = recipe.adaptation
    assert settings is not None
    if not model.content.trainable_weights:
        raise BadInput("adaptation has nothing to train in the content tower: set towers.projection to train.")
    if "text" in model.content.vectors and not model.content.train_projection and model.text_top is None:
        say("the text projection stays as it is, so adaptation does not reach the text (towers.projection: train)")
    strength = settings.strength if settings.method == "adversarial" else None
    head = DomainHead(len(domains.names), units=settings.units, strength=strength, penalty=settings.penalty)
    return Adapted(model, head, weight=settings.weight)


def _thaws_later(recipe: Recipe, epoch: int) -> bool:
    """Whether a layer is still to be thawed: a schedule is not stopped before it has been tried."""
    text, image = recipe.fine_tuning, recipe.image_tuning
    return (text is not None and text.stages[-1].epoch > epoch) or (image is not None and image.epoch > epoch)
