"""A linear item-to-item model as two towers, so that it can be one of an ensemble."""

from __future__ import annotations

from typing import Any

from towers.history import later
from towers.runtime import keras, tf


class LinearItems(keras.layers.Layer):
    """The candidate side of a linear autoencoder with a symmetric core (Steck 2019, EASE), by item id.

    A score is the sum over the history of `S[h, j] / d[j]`. With `S = V diag(sign * value**2) V'`, its K strongest
    eigenvectors, an item's embedding is `[V value / d, d]` (K + 1): what it is as a candidate, and what makes of that
    what it is in a history. The unknown item is zero.

    Does not learn: `pipelines.linear` computes the weights in closed form.

    Args:
        items: Size of the vocabulary, the unknown at 0 not counted.
        rank: K.

    Call arguments: a dict of `item` (...) int32, leading dimensions are free. Returns: (..., K + 1) float32.

    Example:
        >>> import numpy as np
        >>> from towers import LinearItems
        >>> tuple(LinearItems(5, rank=2)({"item": np.array([1, 5, 0], np.int32)}).shape)
        (3, 3)
    """

    def __init__(self, items: int, rank: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.items, self.width = items, rank + 1

    def build(self, shapes: Any) -> None:
        self.table = self.add_weight(name="linear_table", shape=(self.items + 1, self.width), initializer="zeros")

    def call(self, inputs: dict[str, tf.Tensor], present: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
        return tf.gather(self.table, inputs["item"])


class LinearHistory(keras.layers.Layer):
    """The query side: the sum of what was read, the most recent first, so scaled that scores have a spread of 1.

    The spread is the standard deviation of a user's scores over the catalogue that the weights were computed on. It
    makes long and short histories alike, which is what a blend with other scores needs; a ranking does not change.

    Args:
        rank: K.

    Call arguments: a dict of `history` (B, H, K + 1), embeddings of `LinearItems`, and `present` (B, H) bool, oldest
    event first and padding at the end. Returns: (B, K + 1) float32; zero for no history.

    Example:
        >>> import numpy as np
        >>> from towers import LinearHistory
        >>> tower = LinearHistory(rank=2)
        >>> user = tower({"history": np.ones((2, 4, 3), np.float32), "present": np.ones((2, 4), bool)})
        >>> tuple(user.shape)
        (2, 3)
    """

    def __init__(self, rank: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.rank = rank

    def build(self, shapes: Any) -> None:
        self.sign = self.add_weight(name="linear_sign", shape=(self.rank,), initializer="ones")
        self.covariance = self.add_weight(
            name="linear_covariance", shape=(self.rank, self.rank), initializer="identity"
        )
        self.decay = self.add_weight(name="linear_decay", shape=(), initializer="ones")

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        history_BxHxE, present_BxH = inputs["history"], inputs["present"]
        weight_BxH = tf.pow(self.decay, later(present_BxH)) * tf.cast(present_BxH, tf.float32)
        read_BxHxK = history_BxHxE[..., : self.rank] * history_BxHxE[..., self.rank :]
        user_BxK = tf.linalg.matvec(read_BxHxK, weight_BxH, transpose_a=True) * self.sign
        spread_Bx1 = tf.sqrt(tf.nn.relu(tf.reduce_sum((user_BxK @ self.covariance) * user_BxK, axis=1, keepdims=True)))
        return tf.pad(tf.math.divide_no_nan(user_BxK, spread_Bx1), [[0, 0], [0, 1]])
