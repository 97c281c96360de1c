"""Trains the second stage on slates, with the first stage as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.appeal import cross_fitted, fit_appeal
from pipelines.calibration import platt
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.judge import Slates
from pipelines.metrics import slate_metrics
from pipelines.model_ranker import ModelRanker
from pipelines.popularity import Popularity
from pipelines.prepare import Prepared
from pipelines.progress import say, stages, track
from pipelines.recipe import Ranking, Recipe
from pipelines.second_stage import RankingInputs, padding
from pipelines.vocabulary import Vocabulary

# Requests from which on the crosses' thousands of weights are worth training.
_REQUESTS_FOR_CROSSES = 20_000
_CROSSES = 2
_MOST_SHOWN = 64
_POSITIONS = 50


def resolve_ranking(recipe: Recipe, data: Prepared) -> Recipe:
    """The recipe with `ranking.crosses: auto` decided by the number of labelled requests.

    Raises:
        BadInput: The second stage has nothing to learn from.
    """
    if recipe.ranking is None:
        return recipe
    requests = int(_usable(_train_slates(data)).sum())
    if not data.on_requests or requests < 2:
        raise BadInput("ranking needs requests with a click and an item left alone: leave `ranking` out of the recipe.")
    if recipe.ranking.crosses != "auto":
        return recipe
    crosses = _CROSSES if requests >= _REQUESTS_FOR_CROSSES else 0
    if not crosses:
        say(
            f"the ranker stays linear: {requests:,} requests cannot carry crosses "
            f"(ranking.crosses: auto adds them from {_REQUESTS_FOR_CROSSES:,} on)"
        )
    return recipe.model_copy(update={"ranking": recipe.ranking.model_copy(update={"crosses": crosses})})


@dataclass(frozen=True)
class SecondStage:
    """A `towers.ranker.RankingTower` and the `towers.appeal.ContentAppeal` that it is told of."""

    tower: Any
    appeal: Any
    best_epoch: int = 0


def build_ranking(settings: Ranking, vocabulary: Vocabulary, width: int) -> SecondStage:
    """A new, built second stage over a first one of that width."""
    from towers.appeal import ContentAppeal
    from towers.ranker import RankingTower

    if settings.crosses == "auto":
        raise ValueError("resolve ranking.crosses first")
    tower = RankingTower(
        list(settings.weight_by_task),
        objective=list(settings.weight_by_task.values()),
        features=settings.features,
        crosses=settings.crosses,
        projection=settings.projection,
        positions=_POSITIONS if settings.position else 0,
        l2=settings.l2,
        dropout=settings.dropout,
    )
    tower.build({"user": (None, width)})
    appeal = ContentAppeal(width, len(vocabulary.categories))
    appeal.build()
    return SecondStage(tower, appeal)


def train_ranking(
    recipe: Recipe, data: Prepared, model: Any, before: SecondStage | None = None
) -> tuple[SecondStage, dict[str, Any]]:
    """Fit the second stage over the trained first stage `model`; returns it and its metrics.

    The appeal of content is cross-fitted by day, so that the ranker learns what it is worth on days that it has not
    seen. With crosses, the epoch with the best validation AUC is kept, the first stage's order (epoch 0) included. A
    linear ranker is convex and has a penalty, so that its last epoch is its best guess, where the noise of a small
    validation part would often choose another.

    Args:
        before: A second stage whose number of epochs and calibration, found on a validation part, are to be used.

    Raises:
        BadInput: Training diverged.
    """
    settings = recipe.ranking
    assert settings is not None
    train = _train_slates(data)
    usable = _usable(train)
    built = build_ranking(settings, data.vocabulary, model.content.width)
    tower, appeal = built.tower, built.appeal
    inputs = RankingInputs(ModelRanker(model, data.window), appeal, popularity_of(data), data.catalogue.published_at)
    shares = {"embedding the items": 2, "appeal": 1, "features of training": 6, "features of validation": 2}
    with stages("second stage", shares) as begin:
        begin("embedding the items")
        rows = appeal.inputs(inputs.embedding, model.items.category.numpy())
        begin("appeal")
        # Before anything reads the table of items, which holds their appeal.
        appeal.assign(fit_appeal(rows, train.offsets, train.item, train.clicked, settings.appeal_l2))
        begin("features of training")
        examples = _Examples.of(inputs, train, tower)
        examples.set(
            "appeal",
            cross_fitted(rows, train.offsets, train.item, train.clicked, train.queries.at, settings.appeal_l2),
        )
        begin("features of validation")
        held = Slates.of(data.behaviour, data.parts.requests == Part.VALIDATION, known_only=True)
        validation = _Examples.of(inputs, held, tower) if _usable(held).any() else None
    epochs = settings.epochs if before is None else before.best_epoch
    metrics = _fit(tower, settings, examples, usable, validation, epochs=epochs, seed=recipe.training.seed)
    if before is None:
        judged = validation or examples
        logits, labels = judged.logits(tower), judged.slates.labels(tower.tasks)
        tower.calibrate(*zip(*[platt(*both) for both in zip(logits.T, labels.T, strict=True)], strict=True))
    else:
        tower.calibrate(before.tower.slope.numpy(), before.tower.intercept.numpy())
    return SecondStage(tower, appeal, metrics["best_epoch"]), {**metrics, "requests": int(usable.sum())}


def popularity_of(data: Prepared) -> Popularity:
    """Popularity in a dataset, for its own catalogue."""
    return Popularity.of([(data.behaviour, np.arange(len(data.catalogue) + 1))])


def save_ranking(stage: SecondStage, path: Path) -> None:
    """Write both parts as one weights file."""
    _as_model(stage).save_weights(path)


def load_ranking(stage: SecondStage, path: Path) -> None:
    """Read what `save_ranking` wrote into built parts.

    Raises:
        BadInput: The file is missing or broken.
    """
    try:
        _as_model(stage).load_weights(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({str(error)[:100]}): train it again.") from None


def _as_model(stage: SecondStage) -> Any:
    """Both parts as one Keras model, since Keras writes weights of models only."""
    from towers.runtime import keras

    both = keras.Model()
    both.tower, both.appeal = stage.tower, stage.appeal
    both.built = True
    return both


def _train_slates(data: Prepared) -> Slates:
    return Slates.of(data.behaviour, data.parts.requests == Part.TRAIN, known_only=True)


def _usable(slates: Slates) -> np.ndarray:
    clicks = np.bincount(slates.request(), slates.clicked, minlength=len(slates.queries))
    return (clicks > 0) & (clicks < np.diff(slates.offsets))


class _Examples:
    """Slates with the features of all that they showed."""

    def __init__(
        self, inputs: RankingInputs, slates: Slates, tower: Any, features: np.ndarray, users: np.ndarray
    ) -> None:
        self.inputs, self.slates, self.features, self.users = inputs, slates, features, users
        self.request, self.labels = slates.request(), slates.labels(tower.tasks).astype(np.float32)
        self.crossed = tower.crosses > 0

    @classmethod
    def of(cls, inputs: RankingInputs, slates: Slates, tower: Any) -> _Examples:
        return cls(inputs, slates, tower, *inputs.of_pairs(slates.queries, slates.request(), slates.item))

    def set(self, name: str, values: np.ndarray) -> None:
        from towers.ranking_features import FEATURES

        self.features[:, FEATURES.index(name)] = values

    def batch(self, requests: np.ndarray, rng: np.random.Generator | None = None) -> tuple[dict[str, Any], np.ndarray]:
        """The slates of `requests`, padded; and where their items stand in the flat arrays.

        With `rng`, of a slate of more than `_MOST_SHOWN` items all clicks and a draw of the others.
        """
        sizes = np.diff(self.slates.offsets)[requests]
        flat = np.concatenate(
            [np.arange(start, start + size) for start, size in zip(self.slates.offsets[requests], sizes, strict=True)]
        )
        row = np.repeat(np.arange(len(requests)), sizes)
        if rng is not None and sizes.max() > _MOST_SHOWN:
            order = np.lexsort((rng.random(len(flat)), ~self.slates.clicked[flat], row))
            _, column, _ = padding(row, len(requests))
            kept = np.sort(order[column < _MOST_SHOWN])
            flat, row = flat[kept], row[kept]
        row, column, width = padding(row, len(requests))
        shape = (len(requests), width)

        def padded(values: np.ndarray) -> np.ndarray:
            table = np.zeros((*shape, *values.shape[1:]), values.dtype)
            table[row, column] = values
            return table

        item = padded(self.slates.item[flat].astype(np.int32))
        return {
            "features": padded(self.features[flat]),
            "user": self.users[requests],
            "items": self.inputs.embedding[item] if self.crossed else np.zeros((*item.shape, 1), np.float32),
            "position": padded(self.slates.position[flat].astype(np.int32)),
            "present": item > 0,
            "labels": padded(self.labels[flat]),
        }, flat

    def logits(self, tower: Any) -> np.ndarray:
        """(S, tasks) log-odds, not calibrated."""
        found = np.zeros((len(self.features), len(tower.tasks)), np.float32)
        for start in range(0, len(self.slates.queries), 256):
            requests = np.arange(start, min(start + 256, len(self.slates.queries)))
            requests = requests[np.diff(self.slates.offsets)[requests] > 0]
            if len(requests):
                batch, flat = self.batch(requests)
                found[flat] = tower(batch, training=False).numpy()[batch["present"]]
        return found

    def auc(self, tower: Any) -> float:
        slates = self.slates
        metrics = slate_metrics(slates.offsets, self.logits(tower)[:, 0], slates.clicked, slates.tie_break)
        return float(np.nanmean(metrics["auc"]))


def _fit(
    tower: Any,
    settings: Ranking,
    examples: _Examples,
    usable: np.ndarray,
    validation: _Examples | None,
    *,
    epochs: int,
    seed: int,
) -> dict[str, Any]:
    from towers.runtime import keras

    tower.adapt(*_mean_and_spread(examples.features[usable[examples.request]][:, tower.chosen]))
    tower.compile(optimizer=keras.optimizers.Adam(settings.learning_rate), jit_compile=False)
    before = tower.get_weights()
    best_epoch, best, best_weights = 0, validation.auc(tower) if validation else 0.0, before
    losses, scores = [], [best] if validation else []
    for epoch in track(range(1, epochs + 1), "epochs of the second stage", epochs):
        steps = [
            float(tower.train_on_batch(examples.batch(requests, rng)[0]))
            for requests, rng in _epoch(np.flatnonzero(usable), settings.batch_size, (seed, epoch))
        ]
        losses.append(float(np.mean(steps)))
        if not np.isfinite(losses[-1]):
            raise BadInput(f"the ranker diverged in epoch {epoch}: lower ranking.learning_rate.")
        if validation:
            scores.append(validation.auc(tower))
        if not validation or scores[-1] > best or not tower.crosses:
            best_epoch, best, best_weights = epoch, scores[-1] if validation else 0.0, tower.get_weights()
    if epochs and all(np.array_equal(old, new) for old, new in zip(before, tower.get_weights(), strict=True)):
        raise AssertionError("the ranker was trained, but no weight has moved")
    tower.set_weights(best_weights)
    say(
        f"ranker: {len(losses)} epochs"
        + (f", loss {losses[0]:.4f} to {losses[-1]:.4f}" if losses else "")
        + (f", validation auc {scores[0]:.4f} to {best:.4f} (epoch {best_epoch})" if validation else "")
    )
    return {
        "best_epoch": best_epoch,
        "loss": losses,
        "validation": {"metric": "auc", "by_epoch": scores} if scores else None,
    }


def _mean_and_spread(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each column, over what is known of it; 0 and 1 where nothing is."""
    known = ~np.isnan(features)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, features, 0.0).sum(axis=0, dtype=np.float64) / count
    square = np.where(known, (features - mean) ** 2, 0.0).sum(axis=0, dtype=np.float64) / count
    return mean, np.where(square > 0, np.sqrt(square), 1.0)


def _epoch(requests: np.ndarray, size: int, seed: tuple[int, int]) -> Iterator[tuple[np.ndarray, np.random.Generator]]:
    rng = np.random.default_rng(seed)
    order = rng.permutation(requests)
    for start in range(0, len(order), size):
        yield order[start : start + size], rng
