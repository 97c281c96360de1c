from __future__ import annotations

import numpy as np
import pytest

from towers.behaviour import BehaviourTower
from towers.runtime import tf


def request(rows: int = 3, length: int = 4, width: int = 5) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(4)
    return {
        "history": tf.constant(rng.normal(size=(rows, length, width)), tf.float32),
        "present": tf.constant(np.arange(length) < np.array([[length], [1], [0]])[:rows]),
        "age_seconds": tf.constant(rng.uniform(0, 1e5, (rows, length)), tf.float32),
        "dwell_seconds": tf.constant(rng.uniform(0, 100, (rows, length)), tf.float32),
        "language": tf.constant([1, 2, 0][:rows]),
    }


@pytest.mark.parametrize("encoder", ["gru", "mean"])
def test_an_untrained_tower_ranks_by_the_cosine_with_the_mean_of_the_history(encoder: str) -> None:
    tower = BehaviourTower(encoder=encoder, units=6, languages=2, scale=10.0)  # type: ignore[arg-type]
    given = request()
    found = tower(given).numpy()
    mean = given["history"].numpy()[0].mean(axis=0)
    np.testing.assert_allclose(found[0], 10 * mean / np.linalg.norm(mean), rtol=1e-5)
    np.testing.assert_array_equal(found[2], 0)


def test_a_user_without_history_gets_bias_and_language() -> None:
    tower = BehaviourTower(units=6, languages=2)
    given = request()
    tower(given)
    tower.bias.assign([1.0, 2, 3, 4, 5])
    tower.language_table.assign(np.arange(15.0).reshape(3, 5))
    nobody = {**given, "present": tf.zeros((3, 4), tf.bool)}
    found = tower(nobody).numpy()
    np.testing.assert_allclose(found[0], np.array([1.0, 2, 3, 4, 5]) + np.arange(5, 10), atol=1e-5)
    # Language 0 is unknown: its row of the table is never used.
    np.testing.assert_allclose(found[2], [1, 2, 3, 4, 5], atol=1e-5)


def test_users_do_not_influence_each_other() -> None:
    tower = BehaviourTower(units=6, languages=2)
    given = request()
    tower(given)
    rng = np.random.default_rng(5)
    tower.set_weights([w + rng.normal(scale=0.2, size=w.shape).astype("f4") for w in tower.get_weights()])
    together = tower(given).numpy()
    for row in range(3):
        alone = tower({name: value[row : row + 1] for name, value in given.items()}).numpy()
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_every_weight_gets_a_gradient_once_training_has_begun() -> None:
    tower = BehaviourTower(units=6, languages=2)
    given = request()
    tower(given)
    tower.recurrent.readout.assign(tf.ones(tower.recurrent.readout.shape))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tower(given, training=True) ** 2 * tf.range(5.0))
    gradients = tape.gradient(loss, [weight.value for weight in tower.trainable_weights])
    for weight, gradient in zip(tower.trainable_weights, gradients, strict=True):
        assert np.abs(tf.convert_to_tensor(gradient).numpy()).max() > 0, weight.path
