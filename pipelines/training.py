"""Train a recipe on a dataset; the result is a run folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pipelines.artefacts import atomic_folder, check_folder, read_json, write_json
from pipelines.balance import additions
from pipelines.build import build_model
from pipelines.checkpoint import Checkpoint
from pipelines.data.dataset import Dataset
from pipelines.data.engine import OpenEngine, open_duckdb
from pipelines.data.examples import TrainingExamples
from pipelines.data.positives import Positives
from pipelines.data.splits import Part
from pipelines.distributed import workers
from pipelines.ensemble import Fitted, train_ensemble
from pipelines.errors import BadInput
from pipelines.fine_tune import FineTuner
from pipelines.fit import Validation, fit, training_examples
from pipelines.image_tune import ImageTuner
from pipelines.judge import Slates
from pipelines.model_ranker import ModelRanker
from pipelines.optimizer import Tuner
from pipelines.prepare import Prepared, prepare
from pipelines.progress import say, stages
from pipelines.rankers import Ranker
from pipelines.ranking import SecondStage, popularity_of, resolve_ranking, save_ranking, train_ranking
from pipelines.recipe import Recipe
from pipelines.result import Result
from pipelines.run import (
    FILES,
    MEMBERS,
    METRICS,
    ORIGIN,
    RANKER,
    RECIPE,
    REPORT,
    VOCABULARY,
    WEIGHTS,
    Origin,
    Run,
    origin_of,
)
from pipelines.second_stage import RankingInputs, TwoStageRanker
from pipelines.self_training import self_train
from pipelines.training_facts import sizes_of, weights_of
from pipelines.training_page import training_page_of
from pipelines.unfinished import partial_of, unfinished
from pipelines.warm_start import check_warm_start, warm_start

# Examples for each of the projection's columns before it is worth training.
_EXAMPLES_PER_COLUMN = 20


def train(
    recipe: Recipe,
    dataset: Dataset,
    out: Path | str,
    *,
    resume: bool = False,
    mlflow: str | None = None,
    engine: OpenEngine = open_duckdb,
    warm_start: Run | None = None,
    judge: Judge | None = None,
) -> Result:
    """Train and write the run folder `out`; returns its metrics.json.

    The weights kept are those of the epoch with the best validation metric, the untrained model (epoch 0) included.
    With `training.refit`, everything is then trained again on the training and validation parts together, for as many
    epochs as were best.

    Until the run is finished it is in the folder `out` + ".partial", with a checkpoint of every epoch. A run that was
    killed and resumed ends with the metrics of one that was not.

    Args:
        recipe: What to train, and how.
        dataset: On what.
        out: The run folder to make; one that this made before is replaced.
        resume: Go on with the unfinished run, if there is one; a finished one is left as it is.
        mlflow: Tracking URI of MLflow, where the run is recorded too.
        engine: Opens what prepares the events.
        warm_start: A run with whose weights the towers begin (`pipelines.warm_start`), so that epoch 0 is that run, on
            this dataset. What it knows stays in the vocabulary. The optimizer, a second stage, and further members of
            an ensemble begin anew.
        judge: Told of what was trained before anything is written, and asked which parts to train on once more beside
            the training part, instead of what `training.refit` says. A run that was trained on its test in the end
            has none: its recipe says so.

    Raises:
        BadInput: The dataset has too little to train on, `out` is somebody's folder, an unfinished run is there which
            is of another recipe or dataset, or is not to be resumed, or the weights of `warm_start` are of another
            kind of model.

    Example:
        >>> from pipelines import Dataset, Recipe, train
        >>> recipe = Recipe.shipped("ids").changed({"towers.width": 8, "training.epochs": 2, "export.top_k": 10})
        >>> metrics = train(recipe, Dataset.open("data"), "run")  # print(metrics) says what came of it
        >>> metrics["epochs"], len(metrics["validation"]["by_epoch"])  # the untrained model is epoch 0
        (2, 3)
    """
    out = Path(out)
    if warm_start is not None:
        check_warm_start(recipe, warm_start)
    together = workers()
    if together is None:
        return Result(_train(recipe, dataset, out, resume, mlflow, engine, warm_start, judge), training_lines)
    if recipe.adapts or recipe.self_training is not None:
        what = "adaptation" if recipe.adapts else "self_training"
        raise BadInput(f"{what} does not train on several workers: unset TF_CONFIG.")
    with together.folder(out) as own:
        recorded = mlflow if own == out else None
        return Result(_train(recipe, dataset, own, resume, recorded, engine, warm_start, judge), training_lines)


def training_lines(metrics: dict[str, Any]) -> list[str]:
    """What came of a training, as plain text."""
    lines = [f"epoch {metrics['best_epoch']} of {metrics['epochs']} kept"]
    if metrics["validation"]:
        best = max(metrics["validation"]["by_epoch"])
        lines[0] += f", validation {metrics['validation']['metric']} {best:.4f}"
    if "self_training" in metrics:
        lines.append(f"self-training: the {metrics['self_training']['kept']} is kept")
    return lines


def _train(
    recipe: Recipe,
    dataset: Dataset,
    out: Path,
    resume: bool,
    mlflow: str | None,
    engine: OpenEngine,
    begin: Run | None,
    judge: Judge | None,
) -> dict[str, Any]:
    check_folder(out, replaces=FILES)
    origin = origin_of(recipe, dataset, begin)
    known = begin.vocabulary if begin else None
    if resume and _is_finished(out, origin):
        say(f"{out} is finished already")
        return Run.open(out).metrics
    with unfinished(out, origin, recipe, resume=resume, mlflow=mlflow) as work:
        data = prepare(dataset, recipe, known=known, engine=engine)
        recipe = resolve_ranking(recipe, data)
        sizes = sizes_of(data)
        trained = train_prepared(recipe, data, work.scratch, checkpoint=work.checkpoint, warm_start=begin)
        again: Collection[Part] = (Part.VALIDATION,) if recipe.training.refit else ()
        if judge is not None:
            again = judge(recipe, data, trained)
        if again and (trained.validated or Part.TEST in again):
            say(f"training again, on the {' and '.join(part.name.lower() for part in again)} part too")
            data = prepare(dataset, recipe, train_on=again, known=known, engine=engine)
            trained = train_prepared(recipe, data, work.scratch, trained, work.part("refit"), warm_start=begin)
        if Part.TEST in again:
            split = recipe.data.split.nothing_held_out()
            recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"split": split})})
        with atomic_folder(out, replaces=FILES) as draft:
            (draft / RECIPE).write_text(recipe.dump(), encoding="utf-8")
            write_json(draft / ORIGIN, origin.model_dump())
            write_json(draft / VOCABULARY, data.vocabulary.model_dump())
            trained.model.save_weights(draft / WEIGHTS)
            if trained.ensemble is not None:
                write_json(draft / MEMBERS, trained.ensemble.members.model_dump())
            if trained.ranking is not None:
                save_ranking(trained.ranking, draft / RANKER)
            metrics = trained.metrics | {"data": sizes, "weights": weights_of(**trained.stages)}
            write_json(draft / METRICS, metrics)
            work.copy_logs(draft)
            (draft / REPORT).write_text(training_page_of(draft, out.name), encoding="utf-8")
    return metrics


def _is_finished(out: Path, origin: Origin) -> bool:
    """Whether a run of this origin is there and nothing is left to resume."""
    if partial_of(out).exists() or not (out / ORIGIN).exists():
        return False
    return Origin.model_validate(read_json(out / ORIGIN)).difference(origin) is None


# Given a recipe, the data and what was trained: the parts to train on again.
Judge: TypeAlias = Callable[[Recipe, Prepared, "Trained"], Collection[Part]]


@dataclass(frozen=True)
class Trained:
    """What `train_prepared` made: the towers (or the ensemble), and the second stage."""

    model: Any
    train_projection: bool
    ensemble: Fitted | None
    ranking: SecondStage | None
    metrics: dict[str, Any]
    pseudo_labels: Positives = field(default_factory=Positives.none)

    @property
    def validated(self) -> bool:
        return self.metrics["validation"] is not None

    @property
    def stages(self) -> dict[str, Any]:
        return {"towers": self.model} | ({"ranking": self.ranking.tower} if self.ranking else {})

    def ranker(self, recipe: Recipe, data: Prepared) -> Ranker:
        """Both stages over the items of `data`, or the one that there is."""
        first = ModelRanker(self.model, data.window)
        if self.ranking is None or recipe.ranking is None:
            return first
        inputs = RankingInputs(first, self.ranking.appeal, popularity_of(data), data.catalogue.published_at)
        return TwoStageRanker(inputs, self.ranking.tower, max(recipe.ranking.retrieve, recipe.export.top_k))


def train_prepared(
    recipe: Recipe,
    data: Prepared,
    scratch: Path,
    before: Trained | None = None,
    checkpoint: Callable[[str], Checkpoint | None] = lambda fit: None,
    added: Positives | None = None,
    epochs: int | None = None,
    warm_start: Run | None = None,
) -> Trained:
    """Both stages; with `before`, for as many epochs as were best there, and with the pseudo-labels found there.

    Args:
        scratch: A folder for large files.
        checkpoint: Asked for where the state of each fit is kept.
        added: Positives to train the towers on besides those of the log.
        epochs: Of the towers at most; by default the recipe's.
        warm_start: The run with whose weights the towers begin.
    """

    def towers(pseudo_labels: Positives, name: str) -> Trained:
        both = (added or Positives.none()) + pseudo_labels
        trained = _train_towers(recipe, data, scratch, before, checkpoint(name), both, epochs, warm_start)
        return replace(trained, pseudo_labels=pseudo_labels)

    if before or recipe.self_training is None:
        trained = towers(before.pseudo_labels if before else Positives.none(), "towers")
    else:
        trained, said = self_train(recipe, data, towers)
        trained.metrics["self_training"] = said
    model, metrics = trained.model, trained.metrics
    ensemble = None
    if recipe.ensemble is not None:
        ensemble = train_ensemble(recipe, data, model, before.ensemble if before else None, checkpoint)
        model, metrics["ensemble"] = ensemble.model, ensemble.metrics
    if recipe.ranking is None:
        return replace(trained, model=model, ensemble=ensemble)
    ranking, ranked = train_ranking(recipe, data, model, before.ranking if before else None)
    metrics["ranking"] = {**before.metrics["ranking"], "refit": ranked} if before else ranked
    return replace(trained, model=model, ensemble=ensemble, ranking=ranking)


def _train_towers(
    recipe: Recipe,
    data: Prepared,
    scratch: Path,
    before: Trained | None,
    checkpoint: Checkpoint | None,
    added: Positives,
    epochs: int | None,
    begin: Run | None,
) -> Trained:
    """The first stage alone."""
    examples, report = _examples(recipe, data, added)
    if len(examples.rows) < 2:
        raise BadInput(
            f"{data.name} has {len(examples.rows)} training example(s) of known items: at least 2 are needed."
        )
    unknown = data.behaviour.unknown
    say(
        f"{len(examples.rows):,} training examples, {len(data.catalogue):,} items, "
        f"{len(data.behaviour.interactions.user_ids):,} users"
        + (f" ({unknown:,} positives left out: item not in the catalogue)" if unknown else "")
    )
    train_projection = before.train_projection if before else _projection_is_trained(recipe, len(examples.rows))
    with stages("towers", {"texts and images of the items": 1}) as begin_stage:
        begin_stage("texts and images of the items")
        model = build_model(recipe, data.vocabulary, data.catalogue, train_projection=train_projection)
    copied = warm_start(model, data.vocabulary, begin, data.catalogue) if begin else None
    if recipe.features.image is not None and not model.items.image.numpy().any():
        raise BadInput(f"no item of {data.name} has an image that can be decoded: leave features.image out.")
    validation = None if before else Validation.of(data, recipe.training)
    most = before.metrics["best_epoch"] if before else epochs or recipe.training.epochs
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        read = _read_in_training(recipe, data, examples, refitting=before is not None)
        tuners = _tuners(recipe, model, data, read, Path(folder))
        for tuner in tuners if begin else ():
            tuner.renew()
        fitted = fit(
            *(model, recipe, examples, data, validation, tuners),
            epochs=most,
            checkpoint=checkpoint,
        )
    metrics = {**before.metrics, "refit": fitted} if before else fitted
    metrics |= {"examples": len(examples.rows), "positives_of_unknown_items": unknown} | report
    metrics |= {"warm_start": copied} if copied else {}
    return Trained(model, train_projection, None, None, metrics)


def _examples(recipe: Recipe, data: Prepared, added: Positives | None) -> tuple[TrainingExamples, dict[str, Any]]:
    """What the towers are trained on, and what the recipe has added to it."""
    examples = training_examples(recipe, data, added=added)
    more = additions(recipe, data, examples.positives) if len(examples.rows) > 1 else None
    if more is None:
        return examples, {}
    whole = examples.added + more.positives
    return training_examples(recipe, data, added=whole, item_weight=more.item_weight, views=more.views), more.report


def _read_in_training(
    recipe: Recipe, data: Prepared, examples: TrainingExamples, *, refitting: bool
) -> np.ndarray | None:
    """Items whose vectors are read while training goes on, of histories and of slates; None is all."""
    every = recipe.data.histories == "others" or recipe.training.catalogue_weight > 0
    # Substitutes are of any history.
    every |= recipe.augmentation is not None and recipe.augmentation.history.substitute > 0
    if every or not (refitting or data.on_requests):
        return None
    slates = Slates.of(data.behaviour, data.parts.requests == Part.VALIDATION)
    asked = examples.positives
    histories = data.window.items(
        np.r_[asked.user, slates.queries.user], np.r_[asked.history_end, slates.queries.history_end]
    )
    return np.union1d(histories, slates.item[slates.item > 0])


def _tuners(recipe: Recipe, model: Any, data: Prepared, read: np.ndarray | None, scratch: Path) -> list[Tuner]:
    found: list[Tuner] = []
    if recipe.fine_tuning is not None and recipe.features.text is not None:
        (texts,) = data.catalogue.texts(recipe.features.text.fields)
        varied = recipe.augmentation.text if recipe.augmentation is not None else None
        dropped = 0.0 if varied is None else varied.token_dropout
        found.append(FineTuner(model, recipe.fine_tuning, texts, scratch, read, dropped))
    if recipe.image_tuning is not None:
        found.append(ImageTuner(model, recipe.image_tuning, data.catalogue.images, scratch))
    return found


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
