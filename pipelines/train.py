"""Train a recipe on a dataset; the result is a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import atomic_folder, check_folder, write_json
from pipelines.data.dataset import Dataset
from pipelines.data.examples import TrainingExamples
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.judge import CatalogueTargets, Slates
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared, prepare
from pipelines.progress import say, track
from pipelines.recipe import Recipe
from pipelines.run import FILES, METRICS, ORIGIN, RECIPE, VOCABULARY, WEIGHTS, build_model, origin_of

_VALIDATION_QUERIES = 2000
# Examples for each of the projection's columns before it is worth training.
_EXAMPLES_PER_COLUMN = 20


def train(recipe: Recipe, dataset: Dataset, out: Path) -> dict[str, Any]:
    """Train and write the run folder `out`; returns its metrics.json.

    The weights kept are those of the epoch with the best validation metric, the untrained model (epoch 0) included.

    Raises:
        BadInput: The dataset has too little to train on, or `out` is somebody's folder.
    """
    check_folder(out, replaces=FILES)
    data = prepare(dataset, recipe)
    chosen = data.parts.interactions == Part.TRAIN
    if data.on_requests:
        chosen &= data.behaviour.interactions.request >= 0
    examples = TrainingExamples(
        data.behaviour,
        data.window,
        chosen,
        items=len(data.catalogue),
        batch_size=recipe.training.batch_size,
        shown_negatives=recipe.training.shown_negatives,
        max_per_user=recipe.training.max_examples_per_user,
        seed=recipe.training.seed,
    )
    if len(examples.rows) < 2:
        raise BadInput(
            f"{dataset.folder} has {len(examples.rows)} training example(s) of known items: at least 2 are needed."
        )
    say(
        f"{len(examples.rows):,} training examples, {len(data.catalogue):,} items, "
        f"{len(data.behaviour.interactions.user_ids):,} users"
        + (
            f" ({data.behaviour.unknown:,} positives left out: item not in the catalogue)"
            if data.behaviour.unknown
            else ""
        )
    )
    with atomic_folder(out, replaces=FILES) as draft:
        (draft / RECIPE).write_text(recipe.dump(), encoding="utf-8")
        write_json(draft / VOCABULARY, data.vocabulary.model_dump())
        write_json(draft / ORIGIN, origin_of(dataset).model_dump())
        train_projection = _projection_is_trained(recipe, len(examples.rows))
        model = build_model(recipe, data.vocabulary, data.catalogue, train_projection=train_projection)
        metrics = _fit(model, recipe, examples, validation_metric(data, model, seed=recipe.training.seed))
        metrics["examples"] = len(examples.rows)
        metrics["positives_of_unknown_items"] = data.behaviour.unknown
        model.save_weights(draft / WEIGHTS)
        write_json(draft / METRICS, metrics)
    return metrics


def _projection_is_trained(recipe: Recipe, examples: int) -> bool:
    """Whether the data can carry the projection's width**2 weights.

    On 1,100 labelled impressions of MIND a trained projection lost to the frozen encoder in every setting tried.
    """
    if recipe.features.text is None or recipe.towers.projection != "auto":
        return recipe.towers.projection != "keep"
    enough = examples >= _EXAMPLES_PER_COLUMN * recipe.towers.width
    if not enough:
        say(
            f"the text projection stays as it is: {examples:,} examples cannot carry it "
            f"(towers.projection: auto trains it from {_EXAMPLES_PER_COLUMN * recipe.towers.width:,} on)"
        )
    return enough


def validation_metric(data: Prepared, model: Any, *, seed: int) -> tuple[str, Callable[[], float]] | None:
    """The metric that chooses the epoch: mean AUC of the slates, else nDCG@10 over the catalogue."""
    if data.on_requests:
        slates = Slates.of(data.behaviour, data.parts.requests == Part.VALIDATION, known_only=True)
        fixed = _constant(slates)
        if np.isfinite(fixed).any():
            return "auc", lambda: float(np.nanmean(slates.metrics(ModelRanker(model, data.window))["auc"]))
        return None
    targets = CatalogueTargets.of(
        data.behaviour,
        data.catalogue,
        data.parts.interactions == Part.VALIDATION,
        most=_VALIDATION_QUERIES,
        seed=seed,
    )
    if not len(targets.queries):
        return None
    return "ndcg@10", lambda: float(targets.metrics(ModelRanker(model, data.window))["ndcg@10"].mean())


def _constant(slates: Slates) -> np.ndarray:
    """Which slates have both a click and an item left alone: their AUC under no ranking at all."""
    from pipelines.metrics import slate_metrics

    return slate_metrics(slates.offsets, np.zeros(len(slates.item)), slates.clicked, slates.tie_break)["auc"]


def _fit(
    model: Any, recipe: Recipe, examples: TrainingExamples, validation: tuple[str, Callable[[], float]] | None
) -> dict[str, Any]:
    from towers.runtime import keras

    settings = recipe.training
    optimizer = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "scale", "coefficients", "gamma", "beta"])
    model.compile(optimizer=optimizer, jit_compile=False)
    before = model.get_weights()
    batches = _Batches(examples)
    name, measure = validation or ("", None)
    best_epoch, best, best_weights = 0, measure() if measure else 0.0, before
    losses: list[float] = []
    scores: list[float] = [best] if measure else []
    if measure:
        say(f"epoch 0 (untrained): validation {name} {best:.4f}")
    for epoch in range(1, settings.epochs + 1):
        losses.append(_epoch(model, batches, epoch, settings.epochs))
        if not np.isfinite(losses[-1]):
            raise BadInput(
                f"training diverged in epoch {epoch} (the loss is not finite): lower training.learning_rate."
            )
        if not measure:
            best_epoch, best_weights = epoch, model.get_weights()
            say(f"epoch {epoch}: loss {losses[-1]:.4f}")
            continue
        scores.append(measure())
        say(f"epoch {epoch}: loss {losses[-1]:.4f}, validation {name} {scores[-1]:.4f}")
        if scores[-1] > best:
            best_epoch, best, best_weights = epoch, scores[-1], model.get_weights()
        elif epoch - best_epoch >= settings.patience:
            say(f"no better for {settings.patience} epochs: the weights of epoch {best_epoch} are kept")
            break
    if all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)):
        raise AssertionError("training ran, but no weight has moved")
    model.set_weights(best_weights)
    return {
        "best_epoch": best_epoch,
        "epochs": len(losses),
        "loss": losses,
        "validation": {"metric": name, "by_epoch": scores} if measure else None,
    }


def _epoch(model: Any, batches: Any, epoch: int, epochs: int) -> float:
    losses = [
        float(model.train_on_batch(batches.at(epoch, number)))
        for number in track(range(len(batches)), f"epoch {epoch} of {epochs}", len(batches))
    ]
    return float(np.mean(losses))


class _Batches:
    def __init__(self, examples: TrainingExamples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def at(self, epoch: int, number: int) -> dict[str, np.ndarray]:
        return self.examples.batch(epoch, number)
