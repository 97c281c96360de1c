"""How attractive an item's content is to everybody."""

from __future__ import annotations

from typing import Any

import numpy as np

from towers.runtime import keras, tf

# Brings the unit vectors to the size of the category's indicator.
_VECTOR_SCALE = 4.0


class ContentAppeal(keras.layers.Layer):
    """A linear function of an item's embedding and category: its appeal when nothing is known of the user.

    A new article has it before the first click. Not trained by gradient descent: `pipelines.appeal` fits it.

    Args:
        width: D, of the items' embeddings.
        categories: Size of the vocabulary, the unknown at 0 not counted.

    Call arguments: embeddings (..., D) and categories (...) int32. Returns: (...) float32.
    """

    def __init__(self, width: int, categories: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width, self.categories = width, categories

    def build(self, embedding_shape: Any = None, category_shape: Any = None) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(self.width,), initializer="zeros", trainable=False)
        self.category_table = self.add_weight(
            name="category_table", shape=(self.categories + 1,), initializer="zeros", trainable=False
        )

    def call(self, embedding: tf.Tensor, category: tf.Tensor) -> tf.Tensor:
        unit = tf.math.l2_normalize(embedding, axis=-1) * _VECTOR_SCALE
        return tf.linalg.matvec(unit, self.kernel) + tf.gather(self.category_table, category)

    def inputs(self, embedding: np.ndarray, category: np.ndarray) -> np.ndarray:
        """(N, D + categories + 1) float32: the rows whose product with the weights is the appeal."""
        length = np.linalg.norm(embedding, axis=-1, keepdims=True)
        unit = embedding / np.where(length > 0, length, 1.0) * _VECTOR_SCALE
        indicator = np.eye(self.categories + 1, dtype=np.float32)[category]
        return np.concatenate([unit.astype(np.float32), indicator], axis=1)

    def assign(self, weights: np.ndarray) -> None:
        """Set the weights, in the order of the columns of `inputs`."""
        self.kernel.assign(weights[: self.width])
        self.category_table.assign(weights[self.width :])
