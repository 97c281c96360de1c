"""What a history is to the towers: a user's past items and what the user did with them, to one vector."""

from __future__ import annotations

from typing import Any

from towers.runtime import keras, tf

SIGNALS = ("age", "dwell", "scroll")


def signals(age_seconds: tf.Tensor, dwell_seconds: tf.Tensor, scroll_depth: tf.Tensor) -> tf.Tensor:
    """What is known of each event, (B, H) each, on one scale: (B, H, 3).

    Age in seconds as log(1 + hours), dwell in seconds as log(1 + seconds), scroll depth as it is, cut to 0..1.
    Negative counts as zero, and zero as unknown.
    """
    return tf.stack(
        [
            tf.math.log1p(tf.nn.relu(age_seconds) / 3600.0),
            tf.math.log1p(tf.nn.relu(dwell_seconds)),
            tf.clip_by_value(scroll_depth, 0.0, 1.0),
        ],
        axis=-1,
    )


def later(present: tf.Tensor) -> tf.Tensor:
    """(B, H) float32: how many events of the row come after each place."""
    return tf.cumsum(tf.cast(present, tf.float32), axis=1, reverse=True, exclusive=True)


def weights_over_events(logits: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """(B, H) softmax over the events that are there; zero for padding, and all zero for a row with no event."""
    # Finite, so that a row with no event has a softmax at all.
    return tf.nn.softmax(tf.where(present, logits, -1e9), axis=1) * tf.cast(present, tf.float32)


class WeightedMean(keras.layers.Layer):
    """Mean of the history's embeddings, weighted by recency, dwell, scroll depth and place.

    The weight of an event is the softmax of a learned linear function of its `signals` and of log(1 + number of later
    events). All coefficients start at zero: the plain mean.

    Call arguments: embeddings (B, H, D), signals (B, H, S), present (B, H) bool. Returns: (B, D); zero for no history.

    Example:
        >>> import numpy as np
        >>> from towers import WeightedMean
        >>> embeddings = np.array([[[2.0, 0.0], [4.0, 2.0], [9.0, 9.0]]], np.float32)  # B 1, H 3, D 2
        >>> mean = WeightedMean()(embeddings, np.zeros((1, 3, 3), np.float32), np.array([[True, True, False]]))
        >>> mean.numpy().tolist()
        [[3.0, 1.0]]
    """

    def build(self, embeddings_shape: Any, signals_shape: Any, present_shape: Any) -> None:
        self.coefficients = self.add_weight(name="coefficients", shape=(signals_shape[-1] + 1,), initializer="zeros")

    def call(self, embeddings: tf.Tensor, signals: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        evidence_BxHxE = tf.concat([signals, tf.math.log1p(later(present))[..., None]], axis=-1)
        weights_BxH = weights_over_events(tf.linalg.matvec(evidence_BxHxE, self.coefficients), present)
        return tf.linalg.matvec(embeddings, weights_BxH, transpose_a=True)


class HistoryEncoder(keras.layers.Layer):
    """What every learned encoder of a history shares: its inputs, and a read-out that starts at zero.

    An encoder learns what to add to the mean of the history. Since the read-out starts at zero, an untrained encoder
    adds nothing and a tower starts at the ranking of the mean. The events come oldest first with the padding at the
    end; padding between events is the caller's to remove.

    A subclass makes its layers in `build_state` and one vector of each history in `state`.

    Args:
        units: U, width of the state.
        dropout: Share of the inputs set to zero in training.

    Call arguments: embeddings (B, H, D), signals (B, H, S), present (B, H) bool. Returns: (B, D); zero for no history.

    Example:
        >>> import numpy as np
        >>> from towers import HistoryEncoder
        >>> from towers.runtime import tf
        >>> class Newest(HistoryEncoder):
        ...     def build_state(self, steps_shape):
        ...         pass
        ...
        ...     def state(self, steps, present, *, training):
        ...         last = tf.maximum(tf.reduce_sum(tf.cast(present, tf.int32), axis=1) - 1, 0)
        ...         return tf.gather(steps, last, batch_dims=1)[:, : self.units]
        >>> encoder = Newest(units=4)
        >>> present = np.array([[True, True, False], [True, False, False]])
        >>> steps, signals = np.ones((2, 3, 8), np.float32), np.ones((2, 3, 3), np.float32)
        >>> tuple(encoder(steps, signals, present).shape)
        (2, 8)
    """

    def __init__(self, units: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.dropout = keras.layers.Dropout(dropout)

    def build(self, embeddings_shape: Any, signals_shape: Any, present_shape: Any) -> None:
        width = embeddings_shape[-1]
        self.build_state((*embeddings_shape[:-1], width + signals_shape[-1]))
        self.readout = self.add_weight(name="readout", shape=(self.units, width), initializer="zeros")

    def call(self, embeddings: tf.Tensor, signals: tf.Tensor, present: tf.Tensor, training: bool = False) -> tf.Tensor:
        steps_BxHxE = self.dropout(tf.concat([embeddings, signals], axis=-1), training=training)
        any_Bx1 = tf.cast(tf.reduce_any(present, axis=1, keepdims=True), tf.float32)
        return tf.linalg.matmul(self.state(steps_BxHxE, present, training=training) * any_Bx1, self.readout)

    def build_state(self, steps_shape: Any) -> None:
        """Make the weights for steps (B, H, E)."""
        raise NotImplementedError

    def state(self, steps: tf.Tensor, present: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Steps (B, H, E), which are embeddings and signals side by side, and present (B, H) bool to (B, U)."""
        raise NotImplementedError


class CausalEncoder(HistoryEncoder):
    """A history encoder with a state per event that sees nothing later; the newest event's state is the history's.

    With the padding at the end, causality alone keeps it out: no mask of keys is needed, and every event sees one.
    """

    def states(self, steps: tf.Tensor, present: tf.Tensor, *, training: bool) -> tf.Tensor:
        """(B, H, U): the state after each event."""
        raise NotImplementedError

    def state(self, steps: tf.Tensor, present: tf.Tensor, *, training: bool) -> tf.Tensor:
        newest_BxH = tf.cast(present & (later(present) == 0), tf.float32)
        return tf.linalg.matvec(self.states(steps, present, training=training), newest_BxH, transpose_a=True)
