from __future__ import annotations

import numpy as np

from towers.residual import ResidualLayers
from towers.runtime import tf


def layers(**settings: float) -> ResidualLayers:
    found = ResidualLayers([8, 6], **settings)
    found.build((None, 4))
    return found


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(*shape, 4)).astype(np.float32)


def test_untrained_layers_change_nothing() -> None:
    x = rows(5)
    np.testing.assert_allclose(layers(dropout=0.5)(x, training=True).numpy(), x, atol=1e-6)


def test_padding_does_not_count_in_the_statistics() -> None:
    x, padded = rows(6), np.concatenate([rows(6), np.full((9, 4), 50, np.float32)])
    present = np.arange(15) < 6
    one, other = layers(), layers()
    other.set_weights(one.get_weights())
    one(x, training=True)
    other(padded, tf.constant(present), training=True)
    for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
    assert any(np.abs(weight.numpy()).max() > 0 for weight in one.weights if "moving_mean" in weight.path)


def test_any_leading_shape_gives_the_same_rows() -> None:
    built = layers()
    built.set_weights([np.random.default_rng(1).uniform(0.5, 1, w.shape) for w in built.get_weights()])
    x = rows(6)
    flat, square = built(x).numpy(), built(x.reshape(2, 3, 4)).numpy()
    np.testing.assert_allclose(square.reshape(6, 4), flat, atol=1e-5)
    assert np.abs(flat - x).max() > 0.1


def test_every_weight_gets_a_gradient_once_the_last_layer_has_moved() -> None:
    built = layers()
    built.last.kernel.assign(np.random.default_rng(2).normal(size=(6, 4)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(built(rows(7), training=True)))
    gradients = tape.gradient(loss, [weight.value for weight in built.trainable_weights])
    assert all(np.abs(gradient.numpy()).max() > 0 for gradient in gradients)
