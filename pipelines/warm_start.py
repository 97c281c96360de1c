"""New towers that begin with the weights of a trained run, whatever vocabulary each of them has."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.data.catalogue import Catalogue
from pipelines.errors import BadInput
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.vocabulary import Vocabulary

# The vocabulary of each table of embeddings.
_WORDS = {"category": "categories", "tags": "tags", "language": "languages", "item": "items", "device": "devices"}


def check_warm_start(recipe: Recipe, run: Run) -> None:
    """Refuse a recipe whose weights do not mean what the run's do.

    Raises:
        BadInput: Its features, its towers or its tuned encoder are others than the run's.
    """
    for section in ("features", "towers"):
        wanted, there = getattr(recipe, section).model_dump(), getattr(run.recipe, section).model_dump()
        for key in wanted:
            if wanted[key] != there[key]:
                raise BadInput(
                    f"{section}.{key} of the recipe is not that of {run.folder}, so that its weights mean something "
                    "else: train such a recipe from the start, with `belfry train`."
                )
    text, image = run.recipe.fine_tuning, run.recipe.image_tuning
    if text is not None:
        same = recipe.fine_tuning is not None and (
            (recipe.fine_tuning.cut, recipe.fine_tuning.lora_rank) == (text.cut, text.lora_rank)
        )
        if not same:
            raise BadInput(
                f"{run.folder} has fine-tuned its text encoder from layer {text.cut} on: fine_tuning of the recipe "
                "must have the same lowest layer and lora_rank."
            )
    if image is not None and recipe.image_tuning is None:
        raise BadInput(f"{run.folder} has tuned its image encoder: the recipe needs image_tuning too.")


def warm_start(model: Any, vocabulary: Vocabulary, run: Run, catalogue: Catalogue) -> dict[str, Any]:
    """Give a new two-tower `model` the weights of a run's towers.

    Layers are copied one to one, rows of embedding tables by the string that they stand for. A string that the run does
    not know keeps its new row. Of an ensemble, the towers are taken; a second stage and other members are fitted anew.
    Vectors of tuned encoders in the item table are the caller's to renew.

    Returns:
        For metrics.json: the run, how many `weights` were copied outside of tables, and for each table how many of its
        rows were `kept` and how many are `new`.

    Raises:
        BadInput: As `check_warm_start`; the model must have been built for the recipe that was checked.
        AssertionError: A weight was not copied.
    """
    source = run.model(catalogue)
    told: dict[str, Any] = {"run": str(run.folder), "weights": 0, "rows": {}}
    pairs = [
        (_towers(source.content), model.content, "embeddings"),
        (_towers(source.behaviour), model.behaviour, "tables"),
    ]
    for old, new, tables in pairs:
        there, wanted = getattr(old, tables), getattr(new, tables)
        told["weights"] += _copy(_outside(old, there), _outside(new, wanted))
        for name, table in wanted.items():
            before, now = getattr(run.vocabulary, _WORDS[name]), getattr(vocabulary, _WORDS[name])
            kept = _copy_rows(there[name], before, table, now) if name in there else 0
            counts = told["rows"].setdefault(f"{new.name.split('_')[0]} {name}", {})
            counts |= {"kept": kept, "new": len(now) - kept}
    for encoder in ("text_top", "image_encoder"):
        old, new = getattr(source, encoder), getattr(model, encoder)
        if old is not None and new is not None:
            told["weights"] += _copy(old.weights, new.weights)
    if not told["weights"]:
        raise AssertionError(f"nothing of {run.folder} was copied")
    return told


def _towers(side: Any) -> Any:
    """One side of a model, or of an ensemble the side of the towers, which come first."""
    return side.members[0] if hasattr(side, "members") else side


def _outside(layer: Any, tables: dict[str, Any]) -> list[Any]:
    """A layer's weights without its tables."""
    aside = {id(table) for table in tables.values()}
    return [weight for weight in layer.weights if id(weight) not in aside]


def _copy(old: list[Any], new: list[Any]) -> int:
    """Copy weights one to one; returns how many numbers they are."""
    if [(each.name, tuple(each.shape)) for each in old] != [(each.name, tuple(each.shape)) for each in new]:
        raise AssertionError("the weights of the run and of the new model are not alike")
    for before, now in zip(old, new, strict=True):
        values = before.numpy()
        now.assign(values)
        if not np.array_equal(now.numpy(), values):
            raise AssertionError(f"{now.path} was not copied")
    return sum(int(np.prod(each.shape)) for each in new)


def _copy_rows(old: Any, before: list[str], new: Any, now: list[str]) -> int:
    """Copy the rows of the words that both tables know; returns how many."""
    place = {word: row for row, word in enumerate(before, start=1)}
    rows = np.array([place.get(word, 0) for word in ["", *now]])
    values = new.numpy()
    values[rows > 0] = old.numpy()[rows[rows > 0]]
    new.assign(values)
    return int((rows > 0).sum())
