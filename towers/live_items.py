"""Items that come with a request, because they are younger than the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from towers.runtime import tf


def gather(table: tf.Tensor, rows_BxC: tf.Tensor, live: tf.Tensor | None) -> tf.Tensor:
    """`table[rows]` (B, C, ...), where rows from the length of the table on are of `live` (B, F, ...).

    The table is read as a tensor first: TensorFlow copies a variable that is gathered from whenever it is read again.
    """
    table = tf.convert_to_tensor(table)
    if live is None:
        return tf.gather(table, rows_BxC)
    count = tf.shape(table)[0]
    known = tf.gather(table, tf.minimum(rows_BxC, count - 1))
    own = tf.gather(live, tf.maximum(rows_BxC - count, 0), batch_dims=1)
    of_index = tf.reshape(rows_BxC < count, tf.concat([tf.shape(rows_BxC), tf.ones_like(tf.shape(known)[2:])], axis=0))
    return tf.where(of_index, known, own)


@dataclass(frozen=True)
class LiveItems:
    """F items of each of B requests; in the rows that this package counts in, they follow the N + 1 of the index.

    Their embeddings are the content tower's, of the same version of the model. Nobody has clicked on them yet, as far
    as the second stage is concerned. The last is always padding, so that there is one.

    Args:
        ids: (B, F) string, "" for padding.
        embeddings: (B, F, D) float32.
        category: (B, F) int32, 0 for unknown.
        tags: (B, F, T) int32, 0 for none.
        published_at: (B, F) int64, seconds since 1970, 0 for unknown.
    """

    ids: tf.Tensor
    embeddings: tf.Tensor
    category: tf.Tensor
    tags: tf.Tensor
    published_at: tf.Tensor

    @staticmethod
    def specs(width: int) -> dict[str, tf.TensorSpec]:
        """What a signature takes: strings for category and tags, as in `embed_items`."""
        kinds: dict[str, tuple[list[int | None], Any]] = {
            "live_ids": ([None, None], tf.string),
            "live_embeddings": ([None, None, width], tf.float32),
            "live_category": ([None, None], tf.string),
            "live_tags": ([None, None, None], tf.string),
            "live_published_seconds": ([None, None], tf.int64),
        }
        return {name: tf.TensorSpec(shape, kind, name=name) for name, (shape, kind) in kinds.items()}

    @classmethod
    def of(cls, request: dict[str, tf.Tensor], category: Any, tags: tf.Tensor) -> LiveItems:
        """Of a signature's inputs.

        Args:
            category: The vocabulary, as a lookup table.
            tags: (B, F, T) int32, `live_tags` by the vocabulary.
        """
        return cls(
            _padded(request["live_ids"]),
            _padded(request["live_embeddings"]),
            _padded(category.lookup(request["live_category"])),
            _padded(tags),
            _padded(request["live_published_seconds"]),
        )

    def rows(self, ids_BxW: tf.Tensor, index_BxW: tf.Tensor, count: int) -> tf.Tensor:
        """(B, W) rows of ids: of the live item of that id, or else of the index.

        Args:
            index_BxW: Rows of the index, 0 for none.
            count: N + 1.
        """
        same_BxWxF = self._same(ids_BxW)
        place_BxW = tf.argmax(same_BxWxF, axis=-1, output_type=tf.int32)
        return tf.where(tf.reduce_any(same_BxWxF > 0, axis=-1), count + place_BxW, index_BxW)

    def scores(self, user_BxD: tf.Tensor, hidden_BxE: tf.Tensor) -> tf.Tensor:
        """(B, F) of the first stage; the lowest number for padding and for what `hidden_BxE` names."""
        scores_BxF = tf.linalg.matvec(self.embeddings, user_BxD)
        away_BxF = tf.reduce_any(self._same(hidden_BxE) > 0, axis=1) | tf.equal(self.ids, "")
        return tf.where(away_BxF, scores_BxF.dtype.min, scores_BxF)

    def _same(self, ids_BxW: tf.Tensor) -> tf.Tensor:
        same_BxWxF = tf.equal(ids_BxW[:, :, None], self.ids[:, None, :]) & tf.not_equal(ids_BxW, "")[:, :, None]
        return tf.cast(same_BxWxF, tf.int32)


def _padded(values_BxF: tf.Tensor) -> tf.Tensor:
    rank = values_BxF.shape.rank
    padding = "" if values_BxF.dtype == tf.string else tf.zeros((), values_BxF.dtype)
    return tf.pad(values_BxF, [[0, 0], [0, 1], *[[0, 0]] * (rank - 2)], constant_values=padding)
