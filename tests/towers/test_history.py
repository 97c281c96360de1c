"""Every history encoder by the same properties, and what each is made for."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from towers.history import SIGNALS, CausalEncoder, WeightedMean, signals
from towers.history_encoders import EncoderName, history_encoder
from towers.runtime import keras, tf

LEARNED = [name for name in get_args(EncoderName) if name != "mean"]
CAUSAL = ["cnn", "transformer"]


def history(rows: int = 3, length: int = 5, width: int = 4) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(2)
    embeddings = rng.normal(size=(rows, length, width)).astype(np.float32)
    seen = rng.uniform(0, 3, size=(rows, length, len(SIGNALS))).astype(np.float32)
    present = np.arange(length) < np.array([[length], [2], [0]])[:rows]
    return tf.constant(embeddings), tf.constant(seen), tf.constant(present)


def make(name: str) -> Any:
    keras.utils.set_random_seed(1)
    return WeightedMean() if name == "mean" else history_encoder(name, units=6)  # type: ignore[arg-type]


def trained(layer: Any) -> Any:
    """All weights away from their start, so that nothing holds only because of a zero."""
    layer(*history())
    rng = np.random.default_rng(3)
    layer.set_weights([value + rng.normal(scale=0.3, size=value.shape).astype("f4") for value in layer.get_weights()])
    return layer


@pytest.fixture(params=["mean", *LEARNED])
def encoder(request: pytest.FixtureRequest) -> Any:
    return trained(make(request.param))


def test_the_mean_starts_as_the_plain_mean() -> None:
    embeddings, seen, present = history()
    found = WeightedMean()(embeddings, seen, present).numpy()
    np.testing.assert_allclose(found[0], embeddings.numpy()[0].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found[1], embeddings.numpy()[1, :2].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("name", LEARNED)
def test_a_learned_encoder_starts_at_zero_and_can_leave_it(name: str) -> None:
    layer = make(name)
    with tf.GradientTape() as tape:
        found = layer(*history())
        loss = tf.reduce_sum((found - 1.0) ** 2)
    np.testing.assert_array_equal(found.numpy(), 0)
    assert np.abs(tape.gradient(loss, layer.readout.value).numpy()).max() > 0


def test_no_history_is_zero_in_value_and_gradient(encoder: Any) -> None:
    embeddings, seen, present = history()
    with tf.GradientTape() as tape:
        tape.watch([embeddings, seen])
        found = encoder(embeddings, seen, tf.zeros_like(present))
        total = tf.reduce_sum(found * tf.range(1.0, 5.0))
    np.testing.assert_array_equal(found.numpy(), 0)
    for gradient in tape.gradient(total, [embeddings, seen, *(weight.value for weight in encoder.weights)]):
        values = np.zeros(1) if gradient is None else tf.convert_to_tensor(gradient).numpy()
        np.testing.assert_array_equal(values, 0)


def test_padding_has_neither_value_nor_gradient(encoder: Any) -> None:
    embeddings, seen, present = history()
    with tf.GradientTape() as tape:
        tape.watch([embeddings, seen])
        total = tf.reduce_sum(encoder(embeddings, seen, present) ** 2)
    for gradient in tape.gradient(total, [embeddings, seen]):
        assert np.abs(gradient.numpy()[present.numpy()]).max() > 0
        np.testing.assert_array_equal(gradient.numpy()[~present.numpy()], 0)
    there = present[..., None]
    other = encoder(tf.where(there, embeddings, 7.0), tf.where(there, seen, -9.0), present)
    np.testing.assert_allclose(other.numpy(), encoder(embeddings, seen, present).numpy(), atol=1e-6)


def test_more_padding_changes_nothing(encoder: Any) -> None:
    given = history()
    longer = [tf.pad(value, [[0, 0], [0, 3], *[[0, 0]] * (len(value.shape) - 2)]) for value in given]
    np.testing.assert_allclose(encoder(*longer).numpy(), encoder(*given).numpy(), atol=1e-6)


def test_users_do_not_influence_each_other(encoder: Any) -> None:
    given = history()
    together = encoder(*given).numpy()
    for row in range(3):
        alone = encoder(*(value[row : row + 1] for value in given)).numpy()
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6)


def test_every_weight_gets_a_gradient_once_training_has_begun(encoder: Any) -> None:
    given = history()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(encoder(*given) ** 2)
    gradients = tape.gradient(total, [weight.value for weight in encoder.trainable_weights])
    for weight, gradient in zip(encoder.trainable_weights, gradients, strict=True):
        # A softmax does not see what is added to all of its logits.
        if not weight.path.endswith("key/bias"):
            assert np.abs(tf.convert_to_tensor(gradient).numpy()).max() > 1e-6, weight.path


def test_the_batch_size_is_free_in_a_graph(encoder: Any) -> None:
    given = history()
    signature = [tf.TensorSpec([None, *value.shape[1:]], value.dtype) for value in given]
    graph = tf.function(lambda *inputs: encoder(*inputs), input_signature=signature)
    for rows in (1, 3):
        part = [value[:rows] for value in given]
        np.testing.assert_allclose(graph(*part).numpy(), encoder(*part).numpy(), atol=1e-6)
    assert graph(*(value[:0] for value in given)).shape == (0, 4)


@pytest.mark.parametrize("name", ["mean", *LEARNED])
def test_order_matters_to_sequence_models_and_not_to_means(name: str) -> None:
    embeddings, seen, present = history(rows=1)
    layer = WeightedMean() if name == "mean" else trained(make(name))
    backwards = layer(tf.reverse(embeddings, [1]), tf.reverse(seen, [1]), present).numpy()
    difference = np.abs(backwards - layer(embeddings, seen, present).numpy()).max()
    assert difference < 1e-6 if name in ("mean", "attention") else difference > 1e-3


def test_every_signal_matters(encoder: Any) -> None:
    embeddings, seen, present = history(rows=1)
    before = encoder(embeddings, seen, present).numpy()
    for signal in range(len(SIGNALS)):
        changed = seen.numpy()
        changed[0, 1, signal] += 1
        assert np.abs(encoder(embeddings, tf.constant(changed), present).numpy() - before).max() > 1e-4


@pytest.mark.parametrize("name", CAUSAL)
def test_the_state_after_an_event_sees_nothing_later(name: str) -> None:
    layer: CausalEncoder = trained(make(name))
    embeddings, seen, present = history(rows=1)
    steps = tf.concat([embeddings, seen], axis=-1)
    for place in range(5):
        with tf.GradientTape() as tape:
            tape.watch(steps)
            # Not the plain sum, which a layer norm makes constant.
            total = tf.reduce_sum(layer.states(steps, present, training=False)[:, place] * tf.range(6.0))
        gradient = np.abs(tape.gradient(total, steps).numpy()).max(axis=(0, 2))
        assert gradient[place] > 0
        np.testing.assert_array_equal(gradient[place + 1 :], 0)
    assert gradient[1] > 0, "the newest state sees older events"


@pytest.mark.parametrize("name", CAUSAL)
def test_the_newest_event_s_state_is_the_history_s(name: str) -> None:
    layer: CausalEncoder = trained(make(name))
    embeddings, seen, present = history()
    steps = tf.concat([embeddings, seen], axis=-1)
    states = layer.states(steps, present, training=False).numpy()
    found = layer.state(steps, present, training=False).numpy()
    np.testing.assert_allclose(found, [states[0, 4], states[1, 1], np.zeros(6)], atol=1e-6)


def test_a_transformer_counts_from_the_newest_event() -> None:
    layer = trained(make("transformer"))
    embeddings, seen, _ = history(rows=1)
    two = embeddings[:, 3:], seen[:, 3:], tf.ones((1, 2), tf.bool)
    padded = [tf.pad(value, [[0, 0], [0, 3], *[[0, 0]] * (len(value.shape) - 2)]) for value in two]
    before = layer(*padded).numpy()
    used = layer.positions.numpy()
    used[2:] += 5  # where only a longer history's events are
    layer.positions.assign(used)
    np.testing.assert_allclose(layer(*padded).numpy(), before, atol=1e-6)


def test_heads_must_share_the_units() -> None:
    with pytest.raises(ValueError, match="6 units cannot be shared by 4 heads"):
        history_encoder("transformer", units=6, heads=4)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'rnn' is not a history encoder"):
        history_encoder("rnn", units=6)  # type: ignore[arg-type]


def test_a_negative_coefficient_of_age_favours_recent_events() -> None:
    embeddings, _, _ = history(rows=1)
    nothing, all_there = tf.zeros((1, 5)), tf.ones((1, 5), tf.bool)
    seen = signals(tf.constant([[9e5, 4e5, 1e5, 3600.0, 0.0]]), nothing, nothing)
    layer = WeightedMean()
    layer(embeddings, seen, all_there)
    layer.coefficients.assign([-50.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(layer(embeddings, seen, all_there).numpy()[0], embeddings.numpy()[0, 4], atol=1e-4)


def test_signals_are_on_one_scale_and_never_negative() -> None:
    age, dwell, scroll = [[0.0, 3600.0, -5.0]], [[0.0, 1.0, -1.0]], [[0.5, 1.5, -1.0]]
    found = signals(*(tf.constant(values) for values in (age, dwell, scroll))).numpy()
    np.testing.assert_allclose(found[0], [[0, 0, 0.5], [np.log(2), np.log(2), 1], [0, 0, 0]], atol=1e-6)
    assert keras.backend.is_float_dtype(str(found.dtype))
