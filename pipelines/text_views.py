"""Views of items whose text has lost words, or has its body before its title."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines.data.views import Views
from pipelines.encode import item_vectors
from pipelines.prepare import Prepared
from pipelines.recipe import Text, TextAugmentation


def text_views(data: Prepared, rows: np.ndarray, text: Text, settings: TextAugmentation, seed: int) -> Views:
    """Views of the items at `rows`, as many of each, encoded once by the frozen encoder.

    Words are left out one by one, as a word's dropout (Iyyer et al. 2015); of a text one word at least stays.
    """
    rng = np.random.default_rng((seed, 4))
    stands_for = np.repeat(rows, settings.views_of_each).astype(np.int32)
    title, body = (
        np.array([_without_words(each, settings.token_dropout, rng) for each in values[stands_for - 1]], object)
        for values in (data.catalogue.title, data.catalogue.body)
    )
    swapped = rng.random(len(stands_for)) < settings.swap_fields
    title, body = np.where(swapped, body, title), np.where(swapped, title, body)
    vectors = item_vectors(replace(data.catalogue, title=title, body=body), text)
    # A text that is not there has no views.
    kept = np.linalg.norm(vectors, axis=1) > 0
    named = np.ones(int(kept.sum()), bool)
    return Views(len(data.catalogue) + 1, stands_for[kept], vectors[kept], named, named)


def _without_words(text: str, share: float, rng: np.random.Generator) -> str:
    words = text.split()
    kept = rng.random(len(words)) >= share
    if len(words) and not kept.any():
        kept[rng.integers(len(words))] = True
    return " ".join(word for word, stays in zip(words, kept, strict=True) if stays)
