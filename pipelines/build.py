"""From a recipe to the model that it describes."""

from __future__ import annotations

from typing import Any

from pipelines.data.catalogue import Catalogue
from pipelines.encode import load_encoder
from pipelines.errors import BadInput
from pipelines.image_vectors import load_image_encoder
from pipelines.item_table import item_table
from pipelines.recipe import Recipe
from pipelines.vocabulary import Vocabulary


def build_model(recipe: Recipe, vocabulary: Vocabulary, catalogue: Catalogue, *, train_projection: bool = True) -> Any:
    """A new, built `TwoTower` over the items of `catalogue`; its weights depend on the seed alone."""
    items = item_table(recipe, vocabulary, catalogue)
    from towers.runtime import seed_everything

    seed_everything(recipe.training.seed)
    content, behaviour = build_towers(recipe, vocabulary, train_projection=train_projection)
    return two_tower(recipe, content, behaviour, items, text_top=text_top(recipe), image_encoder=image_encoder(recipe))


def build_towers(recipe: Recipe, vocabulary: Vocabulary, *, train_projection: bool = True) -> tuple[Any, Any]:
    """A new candidate tower and a new query tower, without weights yet."""
    from towers.behaviour import BehaviourTower
    from towers.content import ContentTower

    wanted, settings = recipe.features, recipe.towers
    content = ContentTower(
        settings.width,
        use_text=wanted.text is not None,
        use_image=wanted.image is not None,
        fields=2 if wanted.text is not None and wanted.text.fields == "separate" else 1,
        categories=len(vocabulary.categories) if wanted.category else 0,
        tags=len(vocabulary.tags) if wanted.tags else 0,
        languages=len(vocabulary.languages),
        items=len(vocabulary.items) if wanted.item_id else 0,
        train_projection=train_projection,
        dropout=settings.dropout,
        id_dropout=settings.id_dropout,
        hidden=settings.hidden,
    )
    behaviour = BehaviourTower(
        encoder=settings.history_encoder,
        units=settings.history_units,
        layers=settings.history_layers,
        heads=settings.history_heads,
        languages=len(vocabulary.languages),
        devices=len(vocabulary.devices),
        time_of_day=wanted.time_of_day,
        unheard=vocabulary.unheard,
        scale=settings.scale,
        dropout=settings.history_dropout,
    )
    return content, behaviour


def two_tower(
    recipe: Recipe,
    content: Any,
    behaviour: Any,
    items: Any,
    *,
    text_top: Any = None,
    image_encoder: Any = None,
    views: int = 0,
) -> Any:
    """A built `TwoTower` of two towers, with the recipe's losses; what is built of them already stays as it is."""
    from towers.two_tower import TwoTower

    settings = recipe.training
    model = TwoTower(
        content,
        behaviour,
        items,
        text_top=text_top,
        image_encoder=image_encoder,
        views=views,
        in_batch_weight=settings.in_batch_weight,
        shown_weight=settings.shown_weight,
        catalogue_weight=settings.catalogue_weight,
        hard_negatives=settings.hard_negatives,
    )
    model.build({"history": (None, recipe.features.history)})
    return model


def text_top(recipe: Recipe) -> Any:
    """The `towers.finetuning.TextTop` of a recipe that fine-tunes, with its layers frozen; None for one that does not.

    Raises:
        BadInput: The schedule names a layer that the encoder does not have, or its layers cannot be thawed one by one.
    """
    if recipe.fine_tuning is None or recipe.features.text is None:
        return None
    encoder = load_encoder(recipe.features.text)
    from towers.finetuning import TextTop, check_split

    schedule = recipe.fine_tuning
    try:
        highest = max(schedule.stages[0].layers)
        if encoder.layers_count and highest != encoder.layers_count - 1:
            raise ValueError(
                f"the backbone has layers 0 to {encoder.layers_count - 1} and thaws from the top, not from {highest}"
            )
        top = TextTop(encoder, schedule.cut, lora_rank=schedule.lora_rank)
        check_split(encoder, schedule.cut)
    except ValueError as error:
        raise BadInput(f"fine_tuning cannot be done with {recipe.features.text.preset!r}: {error}.") from None
    top.thaw(None)
    return top


def image_encoder(recipe: Recipe) -> Any:
    """The `towers.image.ImageEncoder` of a recipe that fine-tunes it, frozen; None for one that does not."""
    if recipe.image_tuning is None or recipe.features.image is None:
        return None
    encoder = load_image_encoder(recipe.features.image, recipe.image_tuning)
    encoder.thaw(False)
    return encoder
