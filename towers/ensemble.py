"""Several pairs of towers as one: the weighted sum of their scores is one dot product of longer embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from towers.runtime import keras, tf


class EnsembleContent(keras.layers.Layer):
    """Candidate towers side by side.

    With weights by category, an item's embeddings count by its own category's weights.

    Args:
        members: M candidate towers, each with a `width`.
        categories: Size of the vocabulary whose weights are kept, the unknown at 0 not counted; None keeps none.

    Call arguments: what all members take together. Returns: (..., D_1 + ... + D_M) float32.

    Example:
        >>> import numpy as np
        >>> from towers import ContentTower, EnsembleContent
        >>> both = EnsembleContent([ContentTower(8), ContentTower(4, use_text=False, items=3)])
        >>> inputs = {"text": np.zeros((3, 8), np.float32), "item": np.arange(3, dtype=np.int32)}
        >>> tuple(both(inputs).shape), both.width
        ((3, 12), 12)
    """

    def __init__(self, members: Sequence[Any], *, categories: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.members = list(members)
        self.categories = categories
        self.widths = [member.width for member in members]
        self.width = sum(self.widths)

    def build(self, shapes: dict[str, Any]) -> None:
        for member in self.members:
            if not member.built:
                member.build(shapes)
        if self.categories is not None:
            shape = (self.categories + 1, len(self.members))
            self.weight_table = self.add_weight(
                name="category_weights", shape=shape, initializer="ones", trainable=False
            )

    def call(self, inputs: dict[str, tf.Tensor], present: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
        parts = [member(inputs, present, training=training) for member in self.members]
        if self.categories is not None:
            weights = tf.gather(self.weight_table, inputs["category"])
            parts = [part * weights[..., place, None] for place, part in enumerate(parts)]
        return tf.concat(parts, axis=-1)


class EnsembleBehaviour(keras.layers.Layer):
    """Query towers side by side, each over its own part of the items' embeddings, each with its weight.

    Does not learn its weights: `pipelines.blend` fits them on the validation part.

    Args:
        members: M query towers.
        widths: Width of each one's embeddings.
        by: The context that chooses among rows of weights, such as "language"; None is one row for all.
        slices: Size of its vocabulary, the unknown at 0 not counted.

    Call arguments: as `towers.behaviour.BehaviourTower`. Returns: (B, D_1 + ... + D_M) float32.

    Example:
        >>> import numpy as np
        >>> from towers import BehaviourTower, EnsembleBehaviour
        >>> both = EnsembleBehaviour([BehaviourTower(encoder="mean"), BehaviourTower(encoder="mean")], [8, 4])
        >>> signal = np.zeros((2, 3), np.float32)
        >>> user = both(
        ...     {
        ...         "history": np.ones((2, 3, 12), np.float32),
        ...         "age_seconds": signal,
        ...         "dwell_seconds": signal,
        ...         "scroll_depth": signal,
        ...         "present": np.ones((2, 3), bool),
        ...     }
        ... )
        >>> tuple(user.shape)
        (2, 12)
    """

    def __init__(
        self,
        members: Sequence[Any],
        widths: Sequence[int],
        *,
        by: Literal["language", "device"] | None = None,
        slices: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.members, self.widths = list(members), list(widths)
        self.by, self.slices = by, slices

    def build(self, shapes: dict[str, Any]) -> None:
        for member, width in zip(self.members, self.widths, strict=True):
            if not member.built:
                member.build({"history": (*shapes["history"][:-1], width)})
        shape = (self.slices + 1, len(self.members))
        self.weight_table = self.add_weight(name="member_weights", shape=shape, initializer="ones", trainable=False)

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        rows_B = tf.zeros(tf.shape(inputs["present"])[:1], tf.int32) if self.by is None else inputs[self.by]
        weights_BxM = tf.gather(self.weight_table, rows_B)
        histories = tf.split(inputs["history"], self.widths, axis=-1)
        return tf.concat(
            [
                member({**inputs, "history": history}, training=training) * weights_BxM[:, place, None]
                for place, (member, history) in enumerate(zip(self.members, histories, strict=True))
            ],
            axis=-1,
        )
