"""A trained two-tower model as a ranker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipelines.data.window import HistoryWindow
from pipelines.rankers import DotProduct, Queries

_BATCH = 1024
ITEMS_AT_ONCE = 1024
# Of the histories' embeddings, 4 bytes each.
_VALUES_AT_ONCE = 50_000_000


def item_embeddings(model: Any) -> Iterator[np.ndarray]:
    """The embeddings (B, D) of a `TwoTower`'s items in the order of the catalogue, `ITEMS_AT_ONCE` of them a block."""
    from towers.runtime import tf

    for start in range(1, model.items.rows, ITEMS_AT_ONCE):
        yield model.embed_items(tf.range(start, min(start + ITEMS_AT_ONCE, model.items.rows))).numpy()


@dataclass(frozen=True)
class ModelRanker(DotProduct):
    """Dot products of the two towers. The item embeddings are computed once, when first asked for."""

    model: Any
    window: HistoryWindow
    name: str = "two-tower"

    @cached_property
    def items(self) -> np.ndarray:
        blocks = list(item_embeddings(self.model))
        return np.concatenate(blocks) if blocks else np.zeros((0, self.model.content.width), np.float32)

    def embed(self, queries: Queries) -> np.ndarray:
        width = self.model.content.width
        vectors = np.zeros((len(queries), width), np.float32)
        at_once = max(1, min(_BATCH, _VALUES_AT_ONCE // (width * self.window.length)))
        for rows, block in queries.blocks(at_once):
            batch = self.window.batch(block.user, block.history_end, block.at, block.device)
            vectors[rows] = self.model.embed_users_by(batch, self._padded).numpy()
        return vectors

    @cached_property
    def _padded(self) -> Any:
        from towers.runtime import tf

        return tf.constant(np.concatenate([np.zeros((1, self.items.shape[1]), np.float32), self.items]))
