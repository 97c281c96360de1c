from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from towers.history import RecurrentHistory, WeightedMean, signals
from towers.runtime import keras, tf


def history(rows: int = 3, length: int = 5, width: int = 4) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(2)
    embeddings = rng.normal(size=(rows, length, width)).astype(np.float32)
    seen = rng.uniform(0, 3, size=(rows, length, 2)).astype(np.float32)
    present = np.arange(length) < np.array([[length], [2], [0]])[:rows]
    return tf.constant(embeddings), tf.constant(seen), tf.constant(present)


def trained(layer: Any) -> Any:
    """All weights away from their start, so that nothing holds only because of a zero."""
    layer(*history())
    rng = np.random.default_rng(3)
    layer.set_weights([value + rng.normal(scale=0.3, size=value.shape).astype("f4") for value in layer.get_weights()])
    return layer


ENCODERS = [pytest.param(lambda: WeightedMean(), id="mean"), pytest.param(lambda: RecurrentHistory(6), id="gru")]


def test_the_mean_starts_as_the_plain_mean_and_is_zero_without_history() -> None:
    embeddings, seen, present = history()
    found = WeightedMean()(embeddings, seen, present).numpy()
    np.testing.assert_allclose(found[0], embeddings.numpy()[0].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found[1], embeddings.numpy()[1, :2].mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(found[2], 0)


def test_the_recurrent_part_starts_at_zero() -> None:
    np.testing.assert_array_equal(RecurrentHistory(6)(*history()).numpy(), 0)


@pytest.mark.parametrize("make", ENCODERS)
def test_padding_has_neither_value_nor_gradient(make: Any) -> None:
    layer = trained(make())
    embeddings, seen, present = history()
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        total = tf.reduce_sum(layer(embeddings, seen, present) ** 2)
    gradient = tape.gradient(total, embeddings).numpy()
    assert np.abs(gradient[present.numpy()]).max() > 0
    np.testing.assert_array_equal(gradient[~present.numpy()], 0)
    other = tf.where(present[..., None], embeddings, 7.0)
    np.testing.assert_allclose(layer(other, seen, present).numpy(), layer(embeddings, seen, present).numpy(), atol=1e-6)


@pytest.mark.parametrize("make", ENCODERS)
def test_more_padding_changes_nothing(make: Any) -> None:
    layer = trained(make())
    embeddings, seen, present = history()
    longer = [
        tf.pad(value, [[0, 0], [0, 3], *[[0, 0]] * (len(value.shape) - 2)]) for value in (embeddings, seen, present)
    ]
    np.testing.assert_allclose(layer(*longer).numpy(), layer(embeddings, seen, present).numpy(), atol=1e-6)


def test_order_matters_to_the_gru_and_not_to_the_plain_mean() -> None:
    embeddings, seen, present = history(rows=1)
    backwards = tf.reverse(embeddings, [1]), tf.reverse(seen, [1]), present
    mean, gru = WeightedMean(), trained(RecurrentHistory(6))
    np.testing.assert_allclose(mean(*backwards).numpy(), mean(embeddings, seen, present).numpy(), atol=1e-6)
    assert np.abs(gru(*backwards).numpy() - gru(embeddings, seen, present).numpy()).max() > 1e-3


def test_a_negative_coefficient_of_age_favours_recent_events() -> None:
    embeddings, _, _ = history(rows=1)
    seen = signals(tf.constant([[9e5, 4e5, 1e5, 3600.0, 0.0]]), tf.zeros((1, 5)))
    layer = WeightedMean()
    layer(embeddings, seen, tf.ones((1, 5), tf.bool))
    layer.coefficients.assign([-50.0, 0.0, 0.0])
    found = layer(embeddings, seen, tf.ones((1, 5), tf.bool)).numpy()[0]
    np.testing.assert_allclose(found, embeddings.numpy()[0, 4], atol=1e-4)


def test_signals_are_logarithms_and_never_negative() -> None:
    found = signals(tf.constant([[0.0, 3600.0, -5.0]]), tf.constant([[0.0, 1.0, -1.0]])).numpy()
    np.testing.assert_allclose(found[0], [[0, 0], [np.log(2), np.log(2)], [0, 0]], atol=1e-6)
    assert keras.backend.is_float_dtype(str(found.dtype))
