"""Trains a two-tower model epoch by epoch and keeps the best weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.build import two_tower
from pipelines.checkpoint import Checkpoint, History
from pipelines.data.domains import DomainItems
from pipelines.data.examples import TrainingExamples
from pipelines.data.positives import Positives
from pipelines.data.splits import Part
from pipelines.data.views import Views
from pipelines.epoch import train_epoch
from pipelines.errors import BadInput
from pipelines.item_table import with_views
from pipelines.judge import CatalogueTargets, Slates
from pipelines.metrics import RANK_METRICS, SLATE_METRICS
from pipelines.model_ranker import ModelRanker
from pipelines.optimizer import Tuner, ever_trained, optimizer_for
from pipelines.prepare import Prepared
from pipelines.progress import say
from pipelines.rankers import Ranker
from pipelines.recipe import Recipe, Training
from pipelines.similar import history_variation

VALIDATION_QUERIES = 2000


def training_examples(
    recipe: Recipe,
    data: Prepared,
    among: np.ndarray | None = None,
    added: Positives | None = None,
    *,
    item_weight: np.ndarray | None = None,
    views: Views | None = None,
) -> TrainingExamples:
    """The positives that a recipe trains on.

    Args:
        among: (E,) bool, those of the log that come into question.
        added: More, which the log does not hold.
        item_weight: (N + 1,) float32, by which the positives of an item count.
        views: Of items, as which positives are embedded.
    """
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
        augmentation=history_variation(recipe, data),
        whole_catalogue=settings.catalogue_weight > 0,
        domains=DomainItems.of(data.catalogue, recipe.adaptation) if recipe.adaptation and recipe.adapts else None,
        added=added,
        item_weight=item_weight,
        views=views,
    )


@dataclass(frozen=True)
class Validation:
    """What chooses the epoch: a mean over slates, or one over the catalogue in which every user counts alike."""

    name: str
    judge: Slates | CatalogueTargets

    @classmethod
    def of(
        cls,
        data: Prepared,
        settings: Training,
        among: np.ndarray | None = None,
        *,
        part: Part = Part.VALIDATION,
        most: int = VALIDATION_QUERIES,
    ) -> Validation | None:
        """Of a part, as far as its examples are `among` (R,) or (E,) bool; None where there is none.

        Args:
            settings: Name the metric, and seed the draw of queries.
            most: Queries against the catalogue.

        Raises:
            BadInput: There is no such metric where this dataset is judged.
        """
        there = SLATE_METRICS if data.on_requests else RANK_METRICS
        name = settings.metric if settings.metric != "auto" else "auc" if data.on_requests else "ndcg@10"
        if name not in there:
            where = "slates" if data.on_requests else "the catalogue"
            raise BadInput(f"training.metric: {name} is not measured on {where} (there are {', '.join(there)}).")
        chosen = (data.parts.requests if data.on_requests else data.parts.interactions) == part
        if among is not None:
            chosen &= among
        if data.on_requests:
            slates = Slates.of(data.behaviour, chosen, known_only=True)
            return cls(name, slates) if np.isfinite(_constant(slates)).any() else None
        targets = CatalogueTargets.of(data.behaviour, data.catalogue, chosen, most=most, seed=settings.seed)
        return cls(name, targets) if len(targets.queries) else None

    def measure(self, ranker: Ranker) -> float:
        """The chosen metric."""
        return self.measure_all(ranker)[self.name]

    def measure_all(self, ranker: Ranker) -> dict[str, float]:
        """Every metric."""
        return {name: float(np.nanmean(values)) for name, values in self.units(ranker).items()}

    def units(self, ranker: Ranker) -> dict[str, np.ndarray]:
        """Every metric of each slate, or of each user, else those who read most would choose for all."""
        found = self.judge.metrics(ranker)
        if isinstance(self.judge, CatalogueTargets):
            place = np.unique(self.judge.queries.user, return_inverse=True)[1]
            found = {name: np.bincount(place, values) / np.bincount(place) for name, values in found.items()}
        return found


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
    checkpoint: Checkpoint | None = None,
) -> dict[str, Any]:
    """Train `model` for at most `epochs`; it ends with the best weights, those of the start included.

    Args:
        checkpoint: Where the state is kept after every epoch, and from which training goes on if it is there.

    Raises:
        BadInput: Training diverged.
        AssertionError: It ran, and no weight has moved.
    """
    learner = model if examples.views is None else _with_views(model, recipe, examples.views)
    learner = learner if examples.domains is None else _adapted(learner, recipe, examples.domains)
    optimizer = optimizer_for(recipe, learner)
    optimizer.build(ever_trained(learner, tuners))
    learner.compile(optimizer=optimizer, jit_compile=False)
    before = model.get_weights()
    saved = checkpoint.load(learner) if checkpoint else None
    history, best_weights = saved or (History(), before)
    if saved:
        say(f"going on after epoch {history.epochs}")
        # The checkpoint holds weights; the items' vectors are no weights of the learner.
        for tuner in tuners:
            tuner.restore(history.epochs)
    elif validation:
        history.validation.append(validation.measure_all(ModelRanker(model, data.window)))
        say(f"epoch 0 (as it begins): validation {validation.name} {history.validation[0][validation.name]:.4f}")
    while history.epochs < epochs and not _stops(history, recipe):
        epoch, began = history.epochs + 1, time.monotonic()
        loss = train_epoch(learner, examples, tuners, epoch, epochs)
        if not np.isfinite(loss):
            raise BadInput(
                f"training diverged in epoch {epoch} (the loss is not finite): lower training.learning_rate."
            )
        told = f"epoch {epoch}: loss {loss:.4f}"
        better = validation is None
        if validation:
            best = history.validation[history.best_epoch][validation.name]
            history.validation.append(validation.measure_all(ModelRanker(model, data.window)))
            score = history.validation[epoch][validation.name]
            told, better = f"{told}, validation {validation.name} {score:.4f}", score > best
        say(told)
        history.loss.append(loss)
        history.seconds.append(time.monotonic() - began)
        if better:
            history.best_epoch, best_weights = epoch, model.get_weights()
        if checkpoint:
            checkpoint.save(history, learner, best_weights)
    if _stops(history, recipe):
        say(f"no better for {recipe.training.patience} epochs: the weights of epoch {history.best_epoch} are kept")
    if epochs and all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)):
        raise AssertionError("training ran, but no weight has moved")
    model.set_weights(best_weights)
    for tuner in tuners:
        tuner.renew()
    scores = [metrics[validation.name] for metrics in history.validation] if validation else []
    return {
        "best_epoch": history.best_epoch,
        "epochs": history.epochs,
        "loss": history.loss,
        "validation": {"metric": validation.name, "by_epoch": scores} if validation else None,
    }


def _with_views(model: Any, recipe: Recipe, views: Views) -> Any:
    """The same two towers over the items and their views, which learn with it and are left behind."""
    return two_tower(recipe, model.content, model.behaviour, with_views(model.items, views), views=len(views))


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


def _stops(history: History, recipe: Recipe) -> bool:
    """Whether patience is at its end; a schedule that is still to thaw a layer has not been tried yet."""
    text, image = recipe.fine_tuning, recipe.image_tuning
    last = max(text.stages[-1].epoch if text else 0, image.epoch if image else 0)
    return history.epochs >= last and history.epochs - history.best_epoch >= recipe.training.patience
