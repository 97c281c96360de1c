"""The learned history encoders that are short, and the one place where an encoder has a name."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from towers.history import CausalEncoder, HistoryEncoder, weights_over_events
from towers.runtime import keras, tf
from towers.transformer import CausalTransformer

EncoderName: TypeAlias = Literal["mean", "cnn", "lstm", "gru", "attention", "transformer"]

_KERNEL = 3


def history_encoder(
    name: EncoderName, *, units: int, layers: int = 2, heads: int = 2, dropout: float = 0.0
) -> HistoryEncoder | None:
    """The encoder of a name; None for "mean", which learns nothing beside the weights of the mean.

    Args:
        units: Width of the state.
        layers: Of "cnn" and "transformer".
        heads: Of "transformer".
        dropout: Share of the inputs (and, in a transformer, of what each block adds) set to zero in training.

    Example:
        >>> import numpy as np
        >>> from towers import history_encoder
        >>> encoder = history_encoder("transformer", units=4, layers=1, heads=2)
        >>> steps, signals = np.ones((2, 3, 8), np.float32), np.ones((2, 3, 3), np.float32)  # B 2, H 3, D 8
        >>> added = encoder(steps, signals, np.ones((2, 3), bool))
        >>> tuple(added.shape), bool(added.numpy().any())  # untrained, it adds nothing to the mean
        ((2, 8), False)
    """
    match name:
        case "mean":
            return None
        case "gru":
            return Recurrent(keras.layers.GRU, units, dropout)
        case "lstm":
            return Recurrent(keras.layers.LSTM, units, dropout)
        case "cnn":
            return CausalConvolutions(units, layers, dropout)
        case "attention":
            return AttentionPooling(units, dropout)
        case "transformer":
            return CausalTransformer(units, layers, heads, dropout)
    raise ValueError(f"{name!r} is not a history encoder")


class Recurrent(HistoryEncoder):
    """GRU or LSTM over the history, oldest event first (Hidasi et al. 2016, GRU4Rec).

    Args:
        cell: `keras.layers.GRU` or `keras.layers.LSTM`.
        units: U, width of the state.
        dropout: Share of the inputs set to zero in training.

    Example:
        >>> import numpy as np
        >>> from towers import Recurrent
        >>> from towers.runtime import keras
        >>> encoder = Recurrent(keras.layers.LSTM, units=4)
        >>> steps, signals = np.ones((2, 3, 8), np.float32), np.ones((2, 3, 3), np.float32)  # B 2, H 3, D 8
        >>> tuple(encoder(steps, signals, np.ones((2, 3), bool)).shape)
        (2, 8)
    """

    def __init__(self, cell: Any, units: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(units, dropout, **kwargs)
        self.recurrent = cell(units)

    def build_state(self, steps_shape: Any) -> None:
        self.recurrent.build(steps_shape)

    def state(self, steps: tf.Tensor, present: tf.Tensor, *, training: bool) -> tf.Tensor:
        return self.recurrent(steps, mask=present, training=training)


class CausalConvolutions(CausalEncoder):
    """Residual blocks of causal convolutions over time (Yuan et al. 2019, NextItNet).

    Block i looks at three events that are 2**i apart, so that L blocks see 2**(L + 1) - 1 events back. Of NextItNet it
    keeps dilation, causality and residual blocks, with one convolution a block instead of two.

    Args:
        layers: L, number of blocks.
        units: U, width of the state.
        dropout: Share of the inputs set to zero in training.

    Example:
        >>> import numpy as np
        >>> from towers import CausalConvolutions
        >>> encoder = CausalConvolutions(units=4, layers=2)  # sees 7 events back
        >>> steps, signals = np.ones((2, 3, 8), np.float32), np.ones((2, 3, 3), np.float32)  # B 2, H 3, D 8
        >>> tuple(encoder(steps, signals, np.ones((2, 3), bool)).shape)
        (2, 8)
    """

    def __init__(self, units: int, layers: int = 2, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(units, dropout, **kwargs)
        self.inputs = keras.layers.Dense(units)
        self.norms = [keras.layers.LayerNormalization() for _ in range(layers)]
        self.convolutions = [keras.layers.Dense(units, activation="relu") for _ in range(layers)]

    def build_state(self, steps_shape: Any) -> None:
        self.inputs.build(steps_shape)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            norm.build((*steps_shape[:-1], self.units))
            convolution.build((*steps_shape[:-1], _KERNEL * self.units))

    def states(self, steps: tf.Tensor, present: tf.Tensor, *, training: bool) -> tf.Tensor:
        state_BxHxU = self.inputs(steps)
        for block, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            normed_BxHxU = norm(state_BxHxU)
            # Shifted copies and one product: TensorFlow's own dilated convolution fails on a batch of no rows.
            taps = [_earlier(normed_BxHxU, tap * 2**block) for tap in range(_KERNEL)]
            state_BxHxU += convolution(tf.concat(taps, axis=-1))
        return state_BxHxU


def _earlier(steps: tf.Tensor, by: int) -> tf.Tensor:
    """Steps (B, H, U) moved back: place t holds what stood at t - `by`, zero before the first."""
    return tf.pad(steps, [[0, 0], [by, 0], [0, 0]])[:, : tf.shape(steps)[1]]


class AttentionPooling(HistoryEncoder):
    """Additive attention over the events with one learned query (Wu et al. 2019, NRMS' user encoder).

    An event's weight is the softmax of `query . tanh(W event + b)`, where an event is its embedding and its signals.
    The query starts at zero: the plain mean of the events. Does not see the order but through the signals.

    Args:
        units: U, width of the state.
        dropout: Share of the inputs set to zero in training.

    Example:
        >>> import numpy as np
        >>> from towers import AttentionPooling
        >>> encoder = AttentionPooling(units=4)
        >>> steps, signals = np.ones((2, 3, 8), np.float32), np.ones((2, 3, 3), np.float32)  # B 2, H 3, D 8
        >>> tuple(encoder(steps, signals, np.ones((2, 3), bool)).shape)
        (2, 8)
    """

    def build_state(self, steps_shape: Any) -> None:
        self.keys = keras.layers.Dense(self.units, activation="tanh")
        self.keys.build(steps_shape)
        self.query = self.add_weight(name="query", shape=(self.units,), initializer="zeros")
        self.values = keras.layers.Dense(self.units, use_bias=False)
        self.values.build((steps_shape[0], steps_shape[-1]))

    def state(self, steps: tf.Tensor, present: tf.Tensor, *, training: bool) -> tf.Tensor:
        weights_BxH = weights_over_events(tf.linalg.matvec(self.keys(steps), self.query), present)
        return self.values(tf.linalg.matvec(steps, weights_BxH, transpose_a=True))
