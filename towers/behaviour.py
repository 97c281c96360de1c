"""Query tower: what a user has done, and where and when they ask, to one embedding in the items' space."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from towers.history import SIGNALS, WeightedMean, signals
from towers.history_encoders import EncoderName, history_encoder
from towers.runtime import keras, tf

_DAY_SECONDS = 86_400


class BehaviourTower(keras.layers.Layer):
    """History, language, device and time of day of a user, in the space of the content tower.

    The embedding is `scale * unit(weighted mean of the history) + history encoder + language + device + time of day
    + bias`. All but the first term start at zero, so that an untrained tower ranks by the cosine with the mean of the
    history. The scale learns a power of the number of events: a long history says more. The bias is what every user
    likes: its product with an item's embedding is a content-dependent popularity,
    and it is the whole answer for a user of whom nothing is known.

    Does not know weekdays: most logs are too short to tell a weekday from the drift of what is in the news.

    Args:
        encoder: Name of the history encoder; "mean" is the weighted mean alone.
        units, layers, heads: Size of the history encoder, see `towers.history_encoders.history_encoder`.
        languages, devices: Sizes of the vocabularies, the unknown at 0 not counted; 0 leaves the input out.
        time_of_day: Whether the time of the request is an input.
        unheard: Those of `SIGNALS` that the training log does not have. They count as unknown whatever is asked: what
            an untrained weight makes of them would be noise.
        scale: Start of the learned inverse temperature of the cosine.
        dropout: Of the history encoder.

    Call arguments: a dict of `history` (B, H, D), `age_seconds`, `dwell_seconds`, `scroll_depth` (B, H) float32,
    `present` (B, H) bool, oldest event first and padding at the end; `language`, `device` (B,) int32; `time_seconds`
    (B,) int64, the time of the request in seconds since 1970 (UTC), 0 for unknown. What is unknown adds nothing.
    Returns: (B, D) float32.

    Example:
        >>> import numpy as np
        >>> from towers import BehaviourTower
        >>> tower = BehaviourTower(encoder="gru", units=4, languages=2)
        >>> history = np.random.default_rng(1).normal(size=(2, 3, 8)).astype(np.float32)  # B 2, H 3, D 8
        >>> signal = np.zeros((2, 3), np.float32)
        >>> user = tower(
        ...     {
        ...         "history": history,
        ...         "age_seconds": signal,
        ...         "dwell_seconds": signal,
        ...         "scroll_depth": signal,
        ...         "present": np.array([[True, True, False], [False, False, False]]),
        ...         "language": np.array([1, 0], np.int32),
        ...         "device": np.zeros(2, np.int32),
        ...         "time_seconds": np.zeros(2, np.int64),
        ...     }
        ... )
        >>> tuple(user.shape), bool(user[1].numpy().any())  # nothing is known of the second user
        ((2, 8), False)
    """

    def __init__(
        self,
        *,
        encoder: EncoderName = "gru",
        units: int = 64,
        layers: int = 2,
        heads: int = 2,
        languages: int = 0,
        devices: int = 0,
        time_of_day: bool = False,
        unheard: Collection[str] = (),
        scale: float = 10.0,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if wrong := set(unheard) - set(SIGNALS):
            raise ValueError(f"{', '.join(sorted(wrong))}: no signal of an event (there are {', '.join(SIGNALS)})")
        self.heard = [float(name not in unheard) for name in SIGNALS]
        self.mean = WeightedMean()
        self.encoder = history_encoder(encoder, units=units, layers=layers, heads=heads, dropout=dropout)
        self.vocabularies = {name: size for name, size in (("language", languages), ("device", devices)) if size}
        self.time_of_day = time_of_day
        self.start_scale = scale

    def build(self, shapes: dict[str, Any]) -> None:
        history, width = shapes["history"], shapes["history"][-1]
        for layer in (self.mean, self.encoder):
            if layer is not None:
                layer.build(history, (*history[:-1], len(SIGNALS)), history[:-1])
        self.log_scale = self.add_weight(
            name="log_scale", shape=(), initializer=keras.initializers.Constant(math.log(self.start_scale))
        )
        self.length_coefficient = self.add_weight(name="length_coefficients", shape=(), initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=(width,), initializer="zeros")
        self.tables = {
            name: self.add_weight(name=f"{name}_table", shape=(size + 1, width), initializer="zeros")
            for name, size in self.vocabularies.items()
        }
        if self.time_of_day:
            self.hours = self.add_weight(name="hours", shape=(2, width), initializer="zeros")

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        history_BxHxD, present_BxH = inputs["history"], inputs["present"]
        signals_BxHxS = signals(inputs["age_seconds"], inputs["dwell_seconds"], inputs["scroll_depth"])
        if not all(self.heard):
            signals_BxHxS *= tf.constant(self.heard)
        mean_BxD = self.mean(history_BxHxD, signals_BxHxS, present_BxH)
        events_Bx1 = tf.reduce_sum(tf.cast(present_BxH, tf.float32), axis=1, keepdims=True)
        scale_Bx1 = tf.exp(self.log_scale + self.length_coefficient * tf.math.log1p(events_Bx1))
        user_BxD = scale_Bx1 * tf.math.l2_normalize(mean_BxD, axis=-1)
        if self.encoder is not None:
            user_BxD += self.encoder(history_BxHxD, signals_BxHxS, present_BxH, training=training)
        for name, table in self.tables.items():
            known_Bx1 = tf.cast(inputs[name] > 0, tf.float32)[:, None]
            user_BxD += tf.gather(table, inputs[name]) * known_Bx1
        if self.time_of_day:
            user_BxD += tf.linalg.matmul(clock(inputs["time_seconds"]), self.hours)
        return user_BxD + self.bias


def clock(time_seconds: tf.Tensor) -> tf.Tensor:
    """The hand of a 24-hour clock: (B,) seconds since 1970 (UTC) to (B, 2), its sine and cosine.

    The vector has length one, so that 23:59 is next to 00:01; it is zero where the time is unknown (0 or below).
    """
    time_B = tf.cast(time_seconds, tf.int64)
    # Float32 cannot hold seconds since 1970, but those of one day.
    turn_B = tf.cast(tf.math.floormod(time_B, _DAY_SECONDS), tf.float32) * (2 * math.pi / _DAY_SECONDS)
    hand_Bx2 = tf.stack([tf.sin(turn_B), tf.cos(turn_B)], axis=-1)
    return hand_Bx2 * tf.cast(time_B > 0, tf.float32)[:, None]
