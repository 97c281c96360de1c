"""The steps of `balance` and the text views of `augmentation`, one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.balance.classes import Classes, repeated
from pipelines.balance.simulated import simulated
from pipelines.balance.synthetic import synthetic
from pipelines.data.positives import Positives
from pipelines.data.views import Views
from pipelines.item_table import text_table
from pipelines.prepare import Prepared
from pipelines.progress import say
from pipelines.recipe import Balance, Recipe
from pipelines.similar import similar_items
from pipelines.text_views import text_views


@dataclass(frozen=True)
class Additions:
    """What is trained on besides the log, how it counts, and what there is to say of it.

    Attributes:
        report: By section of the recipe, for metrics.json.
    """

    positives: Positives
    item_weight: np.ndarray | None
    views: Views | None
    report: dict[str, Any]


def additions(recipe: Recipe, data: Prepared, positives: Positives) -> Additions | None:
    """What a recipe adds to the `positives` that it trains on; None where it adds nothing.

    Simulated interactions come first, then repeats, then synthetic vectors, each up to what its own settings say; last
    are weights, by the classes as they are by then. All of it depends on the training part, the texts and the seed
    alone. Nothing that is added is in a history, in validation or in the test.
    """
    views, report = None, dict[str, Any]()
    settings, augmentation = recipe.balance, recipe.augmentation
    if augmentation is not None and augmentation.history.used:
        used = augmentation.history.model_dump(exclude={"neighbours"})
        report["augmentation"] = {"history": {name: share for name, share in used.items() if share}}
    # With fine_tuning, tokens are dropped from each step instead.
    wanted = augmentation.text if augmentation is not None else None
    if wanted is not None and recipe.fine_tuning is not None:
        report.setdefault("augmentation", {})["text"] = {"token_dropout": wanted.token_dropout}
    elif wanted is not None and recipe.features.text is not None:
        views = text_views(data, _embedded(recipe, data, positives), recipe.features.text, wanted, recipe.training.seed)
        report.setdefault("augmentation", {})["text"] = {"views": len(views), "items": len(np.unique(views.item))}
    added, weight = Positives.none(), None
    if settings is not None:
        added, weight, more, report["balance"] = _balanced(recipe, settings, data, positives, views)
        if more is not None:
            views = more if views is None else views + more
    if not report:
        return None
    for line in _told(report):
        say(line)
    return Additions(added, weight, views, report)


def _embedded(recipe: Recipe, data: Prepared, positives: Positives) -> np.ndarray:
    """Rows of the items that training embeds as positives or negatives."""
    if recipe.training.catalogue_weight > 0:
        return np.arange(1, len(data.catalogue) + 1)
    requests = data.behaviour.requests
    request = np.repeat(np.arange(len(requests)), np.diff(requests.offsets))
    shown = requests.item[np.isin(request, positives.request)]
    return np.union1d(positives.item, shown[shown > 0])


def _balanced(
    recipe: Recipe, settings: Balance, data: Prepared, positives: Positives, views: Views | None
) -> tuple[Positives, np.ndarray | None, Views | None, dict[str, Any]]:
    seed, text = recipe.training.seed, recipe.features.text
    classes = Classes.of(data, settings, positives)
    report: dict[str, Any] = {"by": settings.by, "positives": classes.named(classes.counts(positives))}
    added, weight, made = Positives.none(), None, None
    if settings.simulated is not None:
        language = np.unique(["", *data.catalogue.language], return_inverse=True)[1]
        similar = similar_items(recipe, data, settings.simulated.neighbours, language)
        more, report["simulated"] = simulated(classes, positives, similar, data, settings.simulated, seed)
        added += more
    if settings.upsample is not None:
        missing = classes.missing(positives + added, settings.upsample)
        more = repeated(classes, positives + added, missing, np.random.default_rng((seed, 1)))
        report["upsample"] = {"added": len(more), "by_class": classes.named(missing)}
        added += more
    if settings.synthetic is not None and text is not None:
        begin = len(data.catalogue) + 1 + (0 if views is None else len(views))
        vectors = text_table(data.catalogue, text)
        more, made, report["synthetic"] = synthetic(
            classes, positives + added, vectors, settings.synthetic, begin, seed
        )
        added += more
    if settings.weights:
        weight = classes.weights(positives + added, settings.weights)
        counts = classes.counts(positives + added)
        known = {
            name: float(weight[np.argmax(classes.of_item == place)])
            for place, name in enumerate(classes.names)
            if counts[place]
        }
        report["weights"] = {"lowest": min(known.values()), "highest": max(known.values()), "by_class": known}
    return added, weight, made if made is not None and len(made) else None, report


def _told(report: dict[str, Any]) -> Iterable[str]:
    """A line for each step."""
    balance, augmentation = report.get("balance", {}), report.get("augmentation", {})
    for name, what in (
        ("simulated", "simulated interactions"),
        ("upsample", "positives repeated"),
        ("synthetic", "synthetic vectors"),
    ):
        if name in balance:
            found = balance[name]
            left = [f"{each} left out ({why})" for each, why in found.get("left_out", {}).items()]
            by = [f"{each} {count:,}" for each, count in found["by_class"].items()]
            yield f"balance: {found['added']:,} {what}" + (f" ({', '.join(by)})" if by else "") + _more(left)
    if "weights" in balance:
        yield f"balance: positives count {balance['weights']['lowest']:.2f} to {balance['weights']['highest']:.2f}"
    if "history" in augmentation:
        yield "augmentation: histories with " + ", ".join(
            f"{name} {share:g}" for name, share in augmentation["history"].items()
        )
    if "token_dropout" in augmentation.get("text", {}):
        yield f"augmentation: {augmentation['text']['token_dropout']:g} of the tokens dropped in every step"
    if "views" in augmentation.get("text", {}):
        yield f"augmentation: {augmentation['text']['views']:,} views of {augmentation['text']['items']:,} texts"


def _more(parts: list[str]) -> str:
    return "".join(f"; {part}" for part in parts)
