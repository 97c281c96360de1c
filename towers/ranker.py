"""Ranking tower: the second stage, which orders what the first one has retrieved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from towers.ranking_features import FEATURES
from towers.runtime import keras, tf

_FARTHEST = 10.0


class RankingTower(keras.Model):
    """Log-odds of each task for C candidates: a linear part, and crosses of both towers' outputs with the features.

    The logit of a task is `wide . features + readout . crosses`. The crosses are those of DCN-v2 (Wang et al. 2021),
    `x' = x0 * (W x + b) + x`, over the features, the projections of the user's and the item's embedding and the
    product of the two. The read-out starts at zero and the wide part at the first stage's score alone, so that an
    untrained ranker keeps the first stage's order. With `crosses=0` it is a linear model, which is what a few thousand
    labelled requests can carry.

    In training the position at which an item was shown adds a bias of its own to the first task (a shallow position
    tower, Zhao et al. 2019); when it ranks, every item is judged as if at the same place.

    Trained on slates: the softmax over what a request showed for the first task, binary cross-entropy for the others.
    Features are standardised by `adapt`, and what lies more than ten standard deviations away counts as that far: a
    clock that is wrong must not decide everything. `calibrate` sets every task's slope and intercept (Platt 1999).

    Args:
        tasks: Names, such as ("click", "read", "like"); the first one is what slates are ranked by in training.
        objective: Weight of each task's log-odds in `score`; the first task alone by default.
        features: Which of `towers.ranking_features.FEATURES` are used.
        crosses: Number of cross layers.
        projection: Width to which both embeddings are projected before they are crossed.
        positions: Positions with a bias of their own; 0 leaves position out.
        l2: Weight of the squared wide weights in the loss.
        dropout: Share of the crosses' output set to zero in training.

    Call arguments: a dict of `features` (B, C, F), `user` (B, D), `items` (B, C, D) and, for training, `position`
    (B, C) int32 from 1, 0 for unknown, `present` (B, C) bool and `labels` (B, C, tasks) 0 or 1.
    Returns: (B, C, tasks) log-odds, not calibrated.

    Example:
        >>> import numpy as np
        >>> from towers import RankingTower
        >>> tower = RankingTower(("click", "read"), features=("retrieval", "nearest"), crosses=1, projection=4)
        >>> rng = np.random.default_rng(1)
        >>> inputs = {  # B 2, C 5, D 8
        ...     "features": rng.normal(size=(2, 5, 12)).astype(np.float32),
        ...     "user": rng.normal(size=(2, 8)).astype(np.float32),
        ...     "items": rng.normal(size=(2, 5, 8)).astype(np.float32),
        ... }
        >>> tuple(tower(inputs).shape), tuple(tower.score(tower.log_odds(inputs)).shape)
        ((2, 5, 2), (2, 5))
    """

    def __init__(
        self,
        tasks: Sequence[str] = ("click",),
        *,
        objective: Sequence[float] | None = None,
        features: Sequence[str] = FEATURES,
        crosses: int = 2,
        projection: int = 32,
        positions: int = 0,
        l2: float = 0.0,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        unknown = sorted(set(features) - set(FEATURES))
        if unknown or not features or not tasks:
            raise ValueError(f"a ranking tower needs tasks and features of {', '.join(FEATURES)}, not {unknown}")
        self.tasks, self.crosses, self.projection, self.positions = tuple(tasks), crosses, projection, positions
        self.objective = tuple(objective or (1.0, *[0.0] * (len(tasks) - 1)))
        self.chosen = [FEATURES.index(name) for name in features]
        self.l2 = l2
        self.dropout = keras.layers.Dropout(dropout)

    def build(self, shapes: dict[str, Any]) -> None:
        count, tasks, width = len(self.chosen), len(self.tasks), shapes["user"][-1]
        self.mean = self.add_weight(name="mean", shape=(count,), initializer="zeros", trainable=False)
        self.spread = self.add_weight(name="spread", shape=(count,), initializer="ones", trainable=False)
        self.slope = self.add_weight(name="slope", shape=(tasks,), initializer="ones", trainable=False)
        self.intercept = self.add_weight(name="intercept", shape=(tasks,), initializer="zeros", trainable=False)
        self.wide = self.add_weight(
            name="wide", shape=(count, tasks), initializer=self._first_stage, regularizer=keras.regularizers.L2(self.l2)
        )
        self.bias = self.add_weight(name="bias", shape=(tasks,), initializer="zeros")
        if self.positions:
            self.position_table = self.add_weight(
                name="position_table", shape=(self.positions + 1, 1), initializer="zeros"
            )
        if not self.crosses:
            return
        size = count + 3 * self.projection
        self.project_user = self.add_weight(name="project_user", shape=(width, self.projection))
        self.project_item = self.add_weight(name="project_item", shape=(width, self.projection))
        self.kernels = [self.add_weight(name=f"cross_{layer}", shape=(size, size)) for layer in range(self.crosses)]
        self.offsets = [
            self.add_weight(name=f"cross_{layer}_bias", shape=(size,), initializer="zeros")
            for layer in range(self.crosses)
        ]
        self.readout = self.add_weight(name="readout", shape=(size, tasks), initializer="zeros")

    def _first_stage(self, shape: Any, dtype: Any = None) -> tf.Tensor:
        kept = [[1.0 if FEATURES[feature] == "retrieval" else 0.0] * shape[1] for feature in self.chosen]
        return tf.constant(kept, dtype or "float32")

    def adapt(self, mean: Any, spread: Any) -> None:
        """Standardise by the mean and the standard deviation (F,) of the chosen features; a spread of 0 counts as 1."""
        self.mean.assign(mean)
        self.spread.assign(tf.where(tf.convert_to_tensor(spread) > 0, spread, 1.0))

    def calibrate(self, slope: Any, intercept: Any) -> None:
        """Set what `log_odds` applies to each task's logit; slopes must be above zero, so that no order changes."""
        if min(slope) <= 0:
            raise ValueError("a calibration slope must be above zero")
        self.slope.assign(slope)
        self.intercept.assign(intercept)

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        features_BxCxF = tf.gather(inputs["features"], self.chosen, axis=-1)
        # What is not known counts as average.
        features_BxCxF = tf.where(tf.math.is_nan(features_BxCxF), self.mean, features_BxCxF)
        features_BxCxF = tf.clip_by_value((features_BxCxF - self.mean) / self.spread, -_FARTHEST, _FARTHEST)
        logits_BxCxT = tf.linalg.matmul(features_BxCxF, self.wide) + self.bias
        if self.crosses:
            logits_BxCxT += self._crossed(features_BxCxF, inputs, training)
        if self.positions and training:
            place_BxC = tf.minimum(inputs["position"], self.positions)
            known_BxCx1 = tf.cast(place_BxC > 0, tf.float32)[..., None]
            shown_BxCx1 = tf.gather(self.position_table, place_BxC) * known_BxCx1
            logits_BxCxT += tf.pad(shown_BxCx1, [[0, 0], [0, 0], [0, len(self.tasks) - 1]])
        return logits_BxCxT

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Mean loss per request. `x` is the batch and `y_pred` its logits; a slate without a click adds nothing to the
        first task."""
        batch, logits_BxCxT = x, y_pred
        present_BxC = tf.cast(batch["present"], tf.float32)
        clicked_BxC = batch["labels"][..., 0] * present_BxC
        log_share_BxC = tf.nn.log_softmax(tf.where(batch["present"], logits_BxCxT[..., 0], -1e9), axis=-1)
        clicks_B = tf.reduce_sum(clicked_BxC, axis=-1)
        loss_B = tf.math.divide_no_nan(-tf.reduce_sum(clicked_BxC * log_share_BxC, axis=-1), clicks_B)
        loss = tf.reduce_mean(loss_B)
        if len(self.tasks) > 1:
            other_BxCxT = tf.nn.sigmoid_cross_entropy_with_logits(batch["labels"][..., 1:], logits_BxCxT[..., 1:])
            shown = tf.maximum(tf.reduce_sum(present_BxC), 1.0)
            loss += tf.reduce_sum(other_BxCxT * present_BxC[..., None]) / shown
        return loss + tf.add_n(self.losses)

    def mean_of(self, feature: str) -> tf.Tensor:
        """The mean () by which a feature is standardised, which counts where it is not known; 0 for one not used."""
        place = FEATURES.index(feature)
        return self.mean[self.chosen.index(place)] if place in self.chosen else tf.constant(0.0)

    def log_odds(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """(B, C, tasks) calibrated log-odds; their sigmoid is a probability."""
        return self(inputs, training=False) * self.slope + self.intercept

    def score(self, log_odds_BxCxT: tf.Tensor) -> tf.Tensor:
        """What items are ordered by (B, C): the weighted sum of the tasks' log-odds."""
        return tf.linalg.matvec(log_odds_BxCxT, tf.constant(self.objective, tf.float32))

    def _crossed(self, features_BxCxF: tf.Tensor, inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        item_BxCxP = tf.linalg.matmul(tf.math.l2_normalize(inputs["items"], axis=-1), self.project_item)
        user_Bx1xP = tf.linalg.matmul(tf.math.l2_normalize(inputs["user"], axis=-1), self.project_user)[:, None, :]
        user_BxCxP = tf.broadcast_to(user_Bx1xP, tf.shape(item_BxCxP))
        start_BxCxE = tf.concat([features_BxCxF, user_BxCxP, item_BxCxP, user_BxCxP * item_BxCxP], axis=-1)
        crossed_BxCxE = start_BxCxE
        for kernel, offset in zip(self.kernels, self.offsets, strict=True):
            crossed_BxCxE = start_BxCxE * (tf.linalg.matmul(crossed_BxCxE, kernel) + offset) + crossed_BxCxE
        return tf.linalg.matmul(self.dropout(crossed_BxCxE, training=training), self.readout)
