"""Causal transformer over a history."""

from __future__ import annotations

from typing import Any

from towers.history import CausalEncoder, later
from towers.runtime import keras, keras_hub, tf


class CausalTransformer(CausalEncoder):
    """Blocks of causal self-attention over the events (Kang and McAuley 2018, SASRec).

    Positions are learned and counted from the newest event, so that "the last click" is the same place in a short and
    in a long history. Blocks normalise first; the feed-forward layer is four times as wide as the state.

    Args:
        layers, heads: Number of blocks, and of attention heads in each.
        units: U, width of the state.
        dropout: Share of the inputs set to zero in training.

    Example:
        >>> import numpy as np
        >>> from towers import CausalTransformer
        >>> encoder = CausalTransformer(units=4, layers=1, heads=2)
        >>> steps, signals = np.ones((2, 3, 8), np.float32), np.ones((2, 3, 3), np.float32)  # B 2, H 3, D 8
        >>> tuple(encoder(steps, signals, np.ones((2, 3), bool)).shape)
        (2, 8)
    """

    def __init__(self, units: int, layers: int = 2, heads: int = 2, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(units, dropout, **kwargs)
        if units % heads:
            raise ValueError(f"{units} units cannot be shared by {heads} heads")
        self.inputs = keras.layers.Dense(units)
        self.blocks = [
            keras_hub.layers.TransformerDecoder(4 * units, heads, dropout=dropout, normalize_first=True)
            for _ in range(layers)
        ]
        self.norm = keras.layers.LayerNormalization()

    def build_state(self, steps_shape: Any) -> None:
        self.inputs.build(steps_shape)
        shape = (*steps_shape[:-1], self.units)
        for layer in (*self.blocks, self.norm):
            layer.build(shape)
        self.positions = self.add_weight(
            name="positions", shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02)
        )

    def states(self, steps: tf.Tensor, present: tf.Tensor, *, training: bool) -> tf.Tensor:
        place_BxH = tf.minimum(tf.cast(later(present), tf.int32), self.positions.shape[0] - 1)
        state_BxHxU = self.inputs(steps) + tf.gather(self.positions, place_BxH)
        for block in self.blocks:
            state_BxHxU = block(state_BxHxU, use_causal_mask=True, training=training)
        return self.norm(state_BxHxU)
