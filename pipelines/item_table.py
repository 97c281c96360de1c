"""What the towers are told about a catalogue's items."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.data.catalogue import Catalogue, list_places, places
from pipelines.data.views import Views
from pipelines.encode import item_vectors
from pipelines.image_vectors import frozen_image_table
from pipelines.recipe import Recipe, Text
from pipelines.vocabulary import TAGS, Vocabulary


def item_table(recipe: Recipe, vocabulary: Vocabulary, catalogue: Catalogue) -> Any:
    """The `towers.features.ItemTable` of a catalogue."""
    wanted, nothing = recipe.features, np.zeros((len(catalogue) + 1, 0), np.float32)
    text = nothing if wanted.text is None else text_table(catalogue, wanted.text)
    image = nothing if wanted.image is None else frozen_image_table(catalogue.images, wanted.image)
    from towers.features import ItemTable

    return ItemTable.from_arrays(
        text,
        places(catalogue.category, vocabulary.categories),
        list_places(catalogue.tags, vocabulary.tags, TAGS),
        places(catalogue.language, vocabulary.languages),
        places(catalogue.ids, vocabulary.items),
        image,
    )


def with_views(items: Any, views: Views) -> Any:
    """An item table and the rows of its views, for training alone."""
    from towers.features import ItemTable

    stands_for = np.r_[np.arange(items.rows), views.item]
    item = items.item.numpy()[stands_for]
    item[items.rows :][~views.named] = 0
    return ItemTable.from_arrays(
        np.concatenate([items.text.numpy(), views.text]),
        items.category.numpy()[stands_for],
        items.tags.numpy()[stands_for],
        items.language.numpy()[stands_for],
        item,
        items.image.numpy()[stands_for],
    )


def text_table(catalogue: Catalogue, text: Text, encoder: Any = None, version: str = "") -> np.ndarray:
    """(N + 1, F * T) text vectors of a catalogue, row 0 is padding; arguments as `pipelines.encode.item_vectors`."""
    vectors = item_vectors(catalogue, text, encoder, version)
    return np.concatenate([np.zeros((1, vectors.shape[1]), np.float32), vectors])
