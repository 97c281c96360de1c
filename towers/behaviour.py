"""Query tower: what a user has done, to one embedding in the items' space."""

from __future__ import annotations

import math
from typing import Any, Literal

from towers.history import RecurrentHistory, WeightedMean, signals
from towers.runtime import keras, tf


class BehaviourTower(keras.layers.Layer):
    """History and language of a user, in the space of the content tower.

    The embedding is `scale * unit(weighted mean of the history) + GRU read-out + language + bias`. All but the first
    term start at zero, so that an untrained tower ranks by the cosine with the mean of the history. The bias is what
    every user likes: its product with an item's embedding is a content-dependent popularity, and it is the whole
    answer for a user with no history and no known language.

    Args:
        encoder: "gru", or "mean" for the weighted mean alone.
        units: Width of the GRU's state.
        languages: Size of the language vocabulary, the unknown at 0 not counted.
        scale: Start of the learned inverse temperature of the cosine.
        dropout: Share of the GRU's inputs set to zero in training.

    Call arguments: a dict of `history` (B, H, D), `age_seconds`, `dwell_seconds` (B, H) float32, `present` (B, H) bool,
    `language` (B,) int32. Returns: (B, D) float32.
    """

    def __init__(
        self,
        *,
        encoder: Literal["gru", "mean"] = "gru",
        units: int = 64,
        languages: int = 0,
        scale: float = 10.0,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mean = WeightedMean()
        self.recurrent = RecurrentHistory(units, dropout) if encoder == "gru" else None
        self.languages = languages
        self.start_scale = scale

    def build(self, shapes: dict[str, Any]) -> None:
        history, width = shapes["history"], shapes["history"][-1]
        for layer in (self.mean, self.recurrent):
            if layer is not None:
                layer.build(history, (*history[:-1], 2), history[:-1])
        self.log_scale = self.add_weight(
            name="log_scale", shape=(), initializer=keras.initializers.Constant(math.log(self.start_scale))
        )
        self.bias = self.add_weight(name="bias", shape=(width,), initializer="zeros")
        self.language_table = self.add_weight(
            name="language_table", shape=(self.languages + 1, width), initializer="zeros"
        )

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        history_BxHxD, present_BxH = inputs["history"], inputs["present"]
        signals_BxHx2 = signals(inputs["age_seconds"], inputs["dwell_seconds"])
        mean_BxD = self.mean(history_BxHxD, signals_BxHx2, present_BxH)
        user_BxD = tf.exp(self.log_scale) * tf.math.l2_normalize(mean_BxD, axis=-1)
        if self.recurrent is not None:
            user_BxD += self.recurrent(history_BxHxD, signals_BxHx2, present_BxH, training=training)
        known_Bx1 = tf.cast(inputs["language"] > 0, tf.float32)[:, None]
        return user_BxD + self.bias + tf.gather(self.language_table, inputs["language"]) * known_Bx1
