from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from towers.behaviour import BehaviourTower, clock
from towers.history_encoders import EncoderName
from towers.runtime import tf

MONDAY_NOON = 1_736_164_800  # 6 January 2025
HOUR = 3600


def request(rows: int = 3, length: int = 4, width: int = 5) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(4)
    return {
        "history": tf.constant(rng.normal(size=(rows, length, width)), tf.float32),
        "present": tf.constant(np.arange(length) < np.array([[length], [1], [0]])[:rows]),
        "age_seconds": tf.constant(rng.uniform(0, 1e5, (rows, length)), tf.float32),
        "dwell_seconds": tf.constant(rng.uniform(0, 100, (rows, length)), tf.float32),
        "scroll_depth": tf.constant(rng.uniform(0, 1, (rows, length)), tf.float32),
        "language": tf.constant([1, 2, 0][:rows]),
        "device": tf.constant([3, 1, 0][:rows]),
        "time_seconds": tf.constant([MONDAY_NOON, MONDAY_NOON + 5 * HOUR, 0][:rows], tf.int64),
    }


def tower(encoder: EncoderName = "gru") -> BehaviourTower:
    return BehaviourTower(encoder=encoder, units=6, languages=2, devices=3, time_of_day=True, scale=10.0)


def trained(made: BehaviourTower) -> BehaviourTower:
    made(request())
    rng = np.random.default_rng(5)
    made.set_weights([w + rng.normal(scale=0.2, size=w.shape).astype("f4") for w in made.get_weights()])
    return made


@pytest.fixture(params=get_args(EncoderName))
def encoder(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_an_untrained_tower_ranks_by_the_cosine_with_the_mean_of_the_history(encoder: EncoderName) -> None:
    given = request()
    found = tower(encoder)(given).numpy()
    mean = given["history"].numpy()[0].mean(axis=0)
    np.testing.assert_allclose(found[0], 10 * mean / np.linalg.norm(mean), rtol=1e-5)
    np.testing.assert_array_equal(found[2], 0)


def test_a_user_without_history_gets_bias_and_context(encoder: EncoderName) -> None:
    made = trained(tower(encoder))
    found = made({**request(), "present": tf.zeros((3, 4), tf.bool)}).numpy()
    bias, hours = made.bias.numpy(), made.hours.numpy()
    noon = hours.T @ [0, -1]
    np.testing.assert_allclose(
        found[0], bias + made.tables["language"].numpy()[1] + made.tables["device"].numpy()[3] + noon, atol=1e-5
    )
    # Nothing is known of the last: the rows of the tables for the unknown are never used.
    np.testing.assert_allclose(found[2], bias, atol=1e-6)


@pytest.mark.parametrize("name", ["language", "device", "time_seconds"])
def test_what_is_unknown_adds_nothing(name: str) -> None:
    made, given = trained(tower()), request()
    unknown = {**given, name: tf.zeros_like(given[name])}
    with tf.GradientTape() as tape:
        found = made(unknown)
    weight = {"language": made.tables["language"], "device": made.tables["device"], "time_seconds": made.hours}[name]
    np.testing.assert_array_equal(tf.convert_to_tensor(tape.gradient(found, weight.value)).numpy(), 0)
    before = found.numpy()
    weight.assign(weight.numpy() + 9)
    np.testing.assert_array_equal(made(unknown).numpy(), before)
    assert np.abs(made(given).numpy()[0] - before[0]).max() > 1


def test_a_signal_that_training_never_had_adds_nothing(encoder: EncoderName) -> None:
    made = trained(BehaviourTower(encoder=encoder, units=6, unheard=["age", "scroll"]))
    given = request()
    before = made(given).numpy()
    other = {**given, "age_seconds": given["age_seconds"] + 1e9, "scroll_depth": 1 - given["scroll_depth"]}
    np.testing.assert_array_equal(made(other).numpy(), before)
    assert np.abs(made({**given, "dwell_seconds": given["dwell_seconds"] + 1e3}).numpy() - before).max() > 1e-3
    with pytest.raises(ValueError, match="dwel: no signal of an event"):
        BehaviourTower(unheard=["dwel"])


def test_a_tower_without_context_has_no_weights_for_it() -> None:
    with_all, without = trained(tower()), BehaviourTower(units=6)
    without(request())
    assert len(with_all.weights) == len(without.weights) + 3


def test_users_do_not_influence_each_other(encoder: EncoderName) -> None:
    made, given = trained(tower(encoder)), request()
    together = made(given).numpy()
    for row in range(3):
        alone = made({name: value[row : row + 1] for name, value in given.items()}).numpy()
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_every_weight_gets_a_gradient_once_training_has_begun(encoder: EncoderName) -> None:
    made = trained(tower(encoder))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(made(request(), training=True) ** 2 * tf.range(5.0))
    gradients = tape.gradient(loss, [weight.value for weight in made.trainable_weights])
    for weight, gradient in zip(made.trainable_weights, gradients, strict=True):
        # A softmax does not see what is added to all of its logits.
        if not weight.path.endswith("key/bias"):
            assert np.abs(tf.convert_to_tensor(gradient).numpy()).max() > 0, weight.path


def test_the_clock_goes_round_once_a_day_and_stands_still_at_an_unknown_time() -> None:
    midnight = MONDAY_NOON - 12 * HOUR
    times = [midnight, midnight + 6 * HOUR, MONDAY_NOON, MONDAY_NOON + 24 * HOUR, midnight - 60, midnight + 60, 0, -5]
    found = clock(tf.constant(times, tf.int64)).numpy()
    np.testing.assert_allclose(found[:4], [[0, 1], [1, 0], [0, -1], [0, -1]], atol=1e-6)
    assert np.linalg.norm(found[4] - found[5]) < 0.01, "a minute to midnight is next to a minute past"
    np.testing.assert_allclose(np.linalg.norm(found[:6], axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found[6:], 0)


def test_the_clock_is_exact_to_the_second() -> None:
    hands = clock(tf.constant(MONDAY_NOON + np.arange(60), tf.int64)).numpy()
    assert len({tuple(hand) for hand in hands.tolist()}) == 60
