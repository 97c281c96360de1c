"""Training against, or with, what tells one domain's items from another's."""

from __future__ import annotations

from typing import Any

from towers.runtime import keras, tf
from towers.two_tower import TwoTower


def gradient_reversal(x: tf.Tensor, strength: float) -> tf.Tensor:
    """`x` as it is; its gradient is multiplied by `-strength` (Ganin et al. 2016, DANN).

    Args:
        x: Any shape.
        strength: By which the gradient is multiplied, with its sign turned.

    Example:
        >>> from towers import gradient_reversal
        >>> from towers.runtime import tf
        >>> x = tf.Variable([1.0, 2.0])
        >>> with tf.GradientTape() as tape:
        ...     y = tf.reduce_sum(gradient_reversal(x, strength=0.5))
        >>> float(y), tape.gradient(y, x).numpy().tolist()
        (3.0, [-0.5, -0.5])
    """

    @tf.custom_gradient
    def reverse(value: tf.Tensor) -> Any:
        return tf.identity(value), lambda slope: -strength * slope

    return reverse(x)


class DomainHead(keras.layers.Layer):
    """A small classifier of an item's domain from its embedding.

    The embedding's length is divided out first, so that a tower cannot deceive the head by its scale.

    Args:
        domains: C, classes.
        units: Of the one hidden layer; 0 leaves it out, and the head is linear.
        strength: Of the gradient reversal, through which the tower learns to hide the domain; None is the plain
            gradient, through which it learns to know it (multi-task training, Caruana 1997).
        penalty: Of the sum of the head's squared weights. Without one, an adversarial game goes round in circles.

    Call arguments: (G, D) float32. Returns: (G, C) logits.

    Example:
        >>> import numpy as np
        >>> from towers import DomainHead
        >>> head = DomainHead(3, strength=1.0)
        >>> tuple(head(np.zeros((5, 8), np.float32)).shape)  # 5 items of width 8, logits of 3 domains
        (5, 3)
    """

    def __init__(
        self, domains: int, *, units: int = 0, strength: float | None = None, penalty: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if domains < 2:
            raise ValueError(f"a domain head needs two domains, not {domains}")
        self.strength, self.penalty = strength, penalty
        layers = [keras.layers.Dense(units, activation="relu")] if units else []
        self.dense = [*layers, keras.layers.Dense(domains)]

    def build(self, shape: Any) -> None:
        for layer in self.dense:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, embedding_GxD: tf.Tensor) -> tf.Tensor:
        found = tf.math.l2_normalize(embedding_GxD, axis=-1) * tf.sqrt(float(embedding_GxD.shape[-1]))
        if self.strength is not None:
            found = gradient_reversal(found, self.strength)
        for layer in self.dense:
            found = layer(found)
        return found

    def loss(self, embedding_GxD: tf.Tensor, domain_G: tf.Tensor) -> tf.Tensor:
        """Mean cross-entropy in nats, and the penalty."""
        logits_GxC = self(embedding_GxD)
        loss_G = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=domain_G, logits=logits_GxC)
        size = tf.add_n([tf.reduce_sum(weight**2) for weight in self.trainable_weights])
        return tf.reduce_mean(loss_G) + self.penalty * size


class Adapted(keras.Model):
    """A `TwoTower` in training, with the loss of a domain head added.

    It is for training alone: what is saved, judged and exported is `towers`, to which the head does not belong. With
    a fine-tuned encoder, items that a batch has for their domain keep the vector of the table.

    Args:
        towers: Built; its weights are trained in place.
        head: Not built yet.
        weight: Of the head's loss.

    Call arguments: as `TwoTower`, and `domain_items` (G,) int32, rows of the item table, whose `domain` (G,) int32 the
    head is to tell. Items need no clicks for that, and no batch has to hold a domain's clicks.
    """

    def __init__(self, towers: TwoTower, head: DomainHead, *, weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.towers, self.head, self.weight = towers, head, weight
        self.head.build((None, towers.content.width))
        self.built = True

    def call(self, batch: dict[str, tf.Tensor], training: bool = False) -> Any:
        return self.towers(batch, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        """The towers' loss per row, and the weighted loss of the head per item."""
        loss = self.towers.compute_loss(x, y, y_pred, sample_weight, training)
        embedding_GxD = self.towers.embed_items(x["domain_items"], training=training)
        return loss + self.weight * self.head.loss(embedding_GxD, x["domain"])
