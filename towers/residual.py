"""Hidden layers that start as nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from towers.runtime import keras, tf


class ResidualLayers(keras.layers.Layer):
    """`x + MLP(x)`, where every hidden layer is dense, batch-normalised, rectified and dropped out.

    The last layer starts at zero, so that at first the whole is the identity (Zhang et al. 2019, Fixup; Ioffe and
    Szegedy 2015 for batch normalisation). Mixes what the inputs of a tower only add up: this text in that category.

    Args:
        units: Width of each hidden layer.
        dropout: Share of each hidden layer set to zero in training.

    Call arguments: `x` (..., D) float32, and `present` (...) bool: rows that are no padding; the batch's statistics are
    of these alone. Returns: (..., D).
    """

    def __init__(self, units: Sequence[int], dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.dense = [keras.layers.Dense(width, use_bias=False) for width in self.units]
        self.norms = [keras.layers.BatchNormalization() for _ in self.units]
        self.dropout = keras.layers.Dropout(dropout)

    def build(self, shape: Any) -> None:
        width = shape[-1]
        for dense, norm in zip(self.dense, self.norms, strict=True):
            dense.build((None, width))
            width = dense.units
            norm.build((None, width))
        self.last = keras.layers.Dense(shape[-1], kernel_initializer="zeros")
        self.last.build((None, width))

    def call(self, x: tf.Tensor, present: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
        # One row an item, because batch normalisation counts over all but the last dimension anyway.
        hidden = tf.reshape(x, [-1, x.shape[-1]])
        mask = None if present is None else tf.reshape(present, [-1])
        for dense, norm in zip(self.dense, self.norms, strict=True):
            hidden = self.dropout(tf.nn.relu(norm(dense(hidden), training=training, mask=mask)), training=training)
        return x + tf.reshape(self.last(hidden), tf.shape(x))
