"""A dataset made ready under a recipe: catalogue, behaviour, split, vocabulary."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from pipelines.data.catalogue import Catalogue, common, places, vocabulary
from pipelines.data.dataset import Dataset
from pipelines.data.engine import OpenEngine, open_duckdb
from pipelines.data.histories import Behaviour, Interactions, load_behaviour
from pipelines.data.splits import Part, Parts, everything, held_items, hide, split, split_at_random, split_by_items
from pipelines.data.window import HistoryWindow
from pipelines.errors import BadInput
from pipelines.progress import stages
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.vocabulary import Signal, Vocabulary


@dataclass(frozen=True)
class Prepared:
    """A dataset as training and evaluation see it under a recipe."""

    name: str
    catalogue: Catalogue
    behaviour: Behaviour
    parts: Parts
    on_requests: bool
    vocabulary: Vocabulary
    window: HistoryWindow
    end: int  # the dataset's last moment, in seconds since 1970

    def on_offer_now(self) -> np.ndarray:
        """(N,) bool: what may be recommended today, going by the end of the dataset."""
        return self.catalogue.on_offer(self.end, published_by=int(time.time()))


def prepare(
    dataset: Dataset,
    recipe: Recipe,
    *,
    train_on: Collection[Part] = (),
    known: Vocabulary | None = None,
    engine: OpenEngine = open_duckdb,
) -> Prepared:
    """Load, split and number a dataset.

    Args:
        train_on: Parts to count as training too.
        known: What a model knows that training starts from, and is to know on as far as it may be met.
        engine: Opens what prepares the events.

    Raises:
        BadInput: The recipe asks for slates and the dataset has none, or for a split that it does not have.
    """
    catalogue, behaviour = _load(dataset, recipe, engine)
    on_requests = bool(len(behaviour.requests)) and recipe.data.examples != "interactions"
    if recipe.data.examples == "impressions" and not on_requests:
        raise BadInput(f"{dataset.folder} has no impressions with a request_id: set data.examples to interactions.")
    behaviour, parts = _divided(behaviour, catalogue, recipe, on_requests)
    parts = parts.training_on(*train_on)
    wanted, log = recipe.features, behaviour.interactions
    trained_on = log.item[parts.interactions == Part.TRAIN]
    known_items = np.zeros(len(catalogue) + 1, bool)
    known_items[trained_on] = True
    members = recipe.ensemble
    linear = members is not None and members.linear is not None
    by_category = members is not None and "category" in members.slices
    words = Vocabulary(
        categories=vocabulary(catalogue.category) if wanted.category or recipe.ranking or by_category else [],
        tags=common(catalogue.tags) if wanted.tags or recipe.ranking else [],
        languages=vocabulary(np.concatenate([catalogue.language, log.user_language])) if wanted.language else [],
        devices=vocabulary(np.concatenate([log.device, behaviour.requests.device])) if wanted.device else [],
        items=vocabulary(catalogue.ids[known_items[1:]]) if wanted.item_id or linear else [],
        unheard=_unheard(dataset, recipe, log, parts),
    )
    words = words if known is None else _knowing(words, known, catalogue)
    return Prepared(
        dataset.info.name,
        catalogue,
        behaviour,
        parts,
        on_requests,
        words,
        _window(dataset, behaviour, recipe, words),
        _end(dataset),
    )


def _load(dataset: Dataset, recipe: Recipe, engine: OpenEngine) -> tuple[Catalogue, Behaviour]:
    with stages(dataset.info.name, {"reading the items": 1, "reading the events": 4}) as begin:
        begin("reading the items")
        catalogue = Catalogue.load(dataset)
        begin("reading the events")
        rating = recipe.data.positive_rating
        return catalogue, load_behaviour(dataset, catalogue.ids, positive_rating=rating, engine=engine)


def _knowing(words: Vocabulary, known: Vocabulary, catalogue: Catalogue) -> Vocabulary:
    """`words`, and after them what is `known`; of what describes items, as far as the catalogue has it."""
    there = {
        "items": set(catalogue.ids),
        "categories": set(catalogue.category),
        "tags": {tag for tags in catalogue.tags for tag in tags},
    }

    def joined(name: str) -> list[str]:
        kept = [word for word in getattr(known, name) if word in there.get(name, {word})]
        return list(dict.fromkeys([*getattr(words, name), *kept]))

    unheard = [signal for signal in words.unheard if signal in known.unheard]
    names = Vocabulary.model_fields.keys() - {"unheard"}
    return Vocabulary(unheard=unheard, **{name: joined(name) for name in names})


def _unheard(dataset: Dataset, recipe: Recipe, log: Interactions, parts: Parts) -> list[Signal]:
    trained_on = parts.interactions == Part.TRAIN
    found: dict[Signal, bool] = {
        "age": _has_times(dataset, recipe),
        "dwell": bool(log.dwell[trained_on].any()),
        "scroll": bool(log.scroll[trained_on].any()),
    }
    return [signal for signal, there in found.items() if not there]


def _divided(behaviour: Behaviour, catalogue: Catalogue, recipe: Recipe, on_requests: bool) -> tuple[Behaviour, Parts]:
    """The parts under the recipe's split, and the log as that has it."""
    rule, seed = recipe.data.split, recipe.training.seed
    if rule.by == "random":
        if on_requests:
            raise BadInput("data.split.by: random divides positives, not slates: set data.examples to interactions.")
        return split_at_random(behaviour, rule, seed)
    if rule.by not in ("items", "language"):
        return behaviour, split(behaviour, rule, on_requests=on_requests, seed=seed)
    held = held_items(catalogue, rule, seed)
    if not on_requests:
        return split_by_items(behaviour, held)
    in_time = rule.model_copy(update={"by": "time", "language": None})
    return hide(behaviour, split(behaviour, in_time, on_requests=True), held == Part.TEST)


def seen_by(run: Run, dataset: Dataset, data: Prepared) -> Prepared:
    """`data`, which `prepare` made of `dataset`, as a run sees it that has another vocabulary."""
    window = _window(dataset, data.behaviour, run.recipe, run.vocabulary)
    return replace(data, vocabulary=run.vocabulary, window=window)


def prepare_for(run: Run, dataset: Dataset, *, engine: OpenEngine = open_duckdb) -> Prepared:
    """Load a dataset for a trained run: its vocabulary, and everything is the test."""
    catalogue, behaviour = _load(dataset, run.recipe, engine)
    return Prepared(
        dataset.info.name,
        catalogue,
        behaviour,
        everything(behaviour, Part.TEST),
        bool(len(behaviour.requests)) and run.recipe.data.examples != "interactions",
        run.vocabulary,
        _window(dataset, behaviour, run.recipe, run.vocabulary),
        _end(dataset),
    )


def _window(dataset: Dataset, behaviour: Behaviour, recipe: Recipe, words: Vocabulary) -> HistoryWindow:
    """How this recipe cuts histories out of this dataset."""
    log = behaviour.interactions
    return HistoryWindow(
        log,
        recipe.features.history,
        has_times=_has_times(dataset, recipe),
        user_language=places(log.user_language, words.languages)[1:],
        devices=words.devices,
    )


def _has_times(dataset: Dataset, recipe: Recipe) -> bool:
    return dataset.info.clock == "utc" and recipe.data.histories == "before"


def _end(dataset: Dataset) -> int:
    return int(dataset.info.last_at.timestamp()) if dataset.info.last_at is not None else 0
