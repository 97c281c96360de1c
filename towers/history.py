"""History encoder: a user's past items and what the user did with them, to one vector."""

from __future__ import annotations

from typing import Any

from towers.runtime import keras, tf


class WeightedMean(keras.layers.Layer):
    """Mean of the history's embeddings, weighted by recency, dwell and place.

    The weight of an event is the softmax of a learned linear function of log(1 + age in hours), log(1 + dwell in
    seconds) and log(1 + number of later events). All three coefficients start at zero: the plain mean.

    Call arguments: embeddings (B, H, D), signals (B, H, 2), present (B, H) bool. Returns: (B, D); zero for no history.
    """

    def build(self, embeddings_shape: Any, signals_shape: Any, present_shape: Any) -> None:
        self.coefficients = self.add_weight(name="coefficients", shape=(3,), initializer="zeros")

    def call(self, embeddings: tf.Tensor, signals: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        kept_BxH = tf.cast(present, tf.float32)
        later_BxH = tf.cumsum(kept_BxH, axis=1, reverse=True, exclusive=True)
        evidence_BxHx3 = tf.concat([signals, tf.math.log1p(later_BxH)[..., None]], axis=-1)
        logits_BxH = tf.linalg.matvec(evidence_BxHx3, self.coefficients)
        logits_BxH = tf.where(present, logits_BxH, -1e9)
        weights_BxH = tf.nn.softmax(logits_BxH, axis=1) * kept_BxH
        return tf.linalg.matvec(embeddings, weights_BxH, transpose_a=True)


class RecurrentHistory(keras.layers.Layer):
    """GRU over the history, oldest event first (Hidasi et al. 2016), read out by a projection that starts at zero.

    Call arguments: embeddings (B, H, D), signals (B, H, 2), present (B, H) bool. Returns: (B, D).

    Args:
        units: Width of the recurrent state.
        dropout: Share of the inputs set to zero in training.
    """

    def __init__(self, units: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gru = keras.layers.GRU(units)
        self.dropout = keras.layers.Dropout(dropout)

    def build(self, embeddings_shape: Any, signals_shape: Any, present_shape: Any) -> None:
        width = embeddings_shape[-1]
        self.gru.build((*embeddings_shape[:-1], width + signals_shape[-1]))
        self.readout = self.add_weight(name="readout", shape=(self.gru.units, width), initializer="zeros")

    def call(self, embeddings: tf.Tensor, signals: tf.Tensor, present: tf.Tensor, training: bool = False) -> tf.Tensor:
        steps_BxHxE = tf.concat([embeddings, signals], axis=-1)
        state_BxU = self.gru(self.dropout(steps_BxHxE, training=training), mask=present, training=training)
        return tf.linalg.matmul(state_BxU, self.readout)


def signals(age_seconds: tf.Tensor, dwell_seconds: tf.Tensor) -> tf.Tensor:
    """Age and dwell (B, H), in seconds, as log(1 + hours) and log(1 + seconds): (B, H, 2). Negative counts as zero."""
    return tf.stack(
        [tf.math.log1p(tf.nn.relu(age_seconds) / 3600.0), tf.math.log1p(tf.nn.relu(dwell_seconds))], axis=-1
    )
