"""The items of an exported version: what is in its graph, and its embeddings in int8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Index:
    """N items, sorted by id. Every table has N + 1 rows, of which row 0 is no item.

    Without a second stage nothing but ids, embeddings and `on_offer` is known.
    """

    ids: list[str]
    embedding: np.ndarray  # (N + 1, D) float32
    on_offer: np.ndarray  # (N + 1,) bool
    category: np.ndarray  # (N + 1,) int32
    tags: np.ndarray  # (N + 1, T) int32
    appeal: np.ndarray  # (N + 1,) float32
    clicks: np.ndarray
    click_rate: np.ndarray
    published_at: np.ndarray  # (N + 1,) int64, 0 for unknown

    @classmethod
    def of(cls, loaded: Any, tags_kept: int) -> Index:
        """Of a reloaded `towers.recommender.Recommender`."""
        ids = [each.decode() for each in loaded.item_ids.numpy()[1:]]
        rows, ranker = len(ids) + 1, getattr(loaded, "ranker", None)
        shapes = {
            "category": ((rows,), np.int32),
            "tags": ((rows, tags_kept), np.int32),
            **dict.fromkeys(("appeal", "clicks", "click_rate"), ((rows,), np.float32)),
            "published_at": ((rows,), np.int64),
        }
        tables = {
            name: np.zeros(shape, dtype) if ranker is None else getattr(ranker, name).numpy()
            for name, (shape, dtype) in shapes.items()
        }
        return cls(ids, loaded.embeddings.numpy(), loaded.on_offer.numpy(), **tables)


def int8_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) float32 to int8 (N, D) and a scale (N,), so that `int8 * scale` is within half a scale of each value.

    A row's scale is its largest absolute value over 127; a row of zeros has scale 0.
    """
    scale = (np.abs(values).max(axis=1, initial=0.0) / 127).astype(np.float32)
    steps = np.divide(values, scale[:, None], out=np.zeros_like(values), where=scale[:, None] > 0)
    return np.clip(np.rint(steps), -127, 127).astype(np.int8), scale


def float_rows(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """What `int8_rows` stands for, (N, D) float32."""
    return values.astype(np.float32) * scale[:, None]


def write_items(path: Path, index: Index, *, exact: bool = False) -> None:
    """The index as a device reads it, without row 0.

    Args:
        exact: Embeddings in float32; in int8 otherwise.
    """
    texts = [each.encode() for each in index.ids]
    embedding = {"embedding": index.embedding[1:]}
    if not exact:
        embedding = dict(zip(("embedding", "scale"), int8_rows(index.embedding[1:]), strict=True))
    np.savez(
        path,
        allow_pickle=False,
        ids=np.frombuffer(b"".join(texts), np.uint8),
        id_offsets=np.cumsum([0, *map(len, texts)], dtype=np.int64),
        **embedding,
        **{
            name: getattr(index, name)[1:]
            for name in ("on_offer", "category", "tags", "appeal", "clicks", "click_rate", "published_at")
        },
    )
