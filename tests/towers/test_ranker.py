from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from towers.ranker import RankingTower
from towers.ranking_features import FEATURES
from towers.runtime import keras, seed_everything, tf

TASKS = ("click", "read")


def tower(**changes: Any) -> RankingTower:
    seed_everything(3)
    built = RankingTower(TASKS, **{"projection": 4, "positions": 3, **changes})
    built.build({"user": (None, 6)})
    return built


def batch(rows: int = 4, shown: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    present = np.arange(shown) < np.array([[5], [4], [3], [5]])[:rows]
    labels = (rng.random((rows, shown, 2)) < 0.4) * present[..., None]
    labels[:, 0] = [1, 0]
    return {
        "features": rng.normal(size=(rows, shown, len(FEATURES))).astype(np.float32),
        "user": rng.normal(size=(rows, 6)).astype(np.float32),
        "items": rng.normal(size=(rows, shown, 6)).astype(np.float32),
        "position": np.tile(np.arange(1, shown + 1, dtype=np.int32), (rows, 1)),
        "present": present,
        "labels": labels.astype(np.float32),
    }


def trained(built: RankingTower) -> RankingTower:
    rng = np.random.default_rng(5)
    for weight in built.trainable_weights:
        weight.assign(rng.normal(scale=0.3, size=weight.shape))
    return built


@pytest.mark.parametrize("crosses", [0, 2])
def test_an_untrained_ranker_keeps_the_order_of_the_first_stage(crosses: int) -> None:
    given, built = batch(), tower(crosses=crosses)
    built.adapt(np.linspace(-1, 1, len(FEATURES)), np.linspace(0.5, 2, len(FEATURES)))
    order = np.argsort(given["features"][..., FEATURES.index("retrieval")])
    np.testing.assert_array_equal(np.argsort(built(given).numpy()[..., 0]), order)


def test_crosses_need_both_the_user_and_the_item() -> None:
    given, built = batch(), trained(tower(crosses=2))
    for name in ("user", "items"):
        other = {**given, name: given[name][::-1]}
        assert np.abs(built(other).numpy() - built(given).numpy()).max() > 1e-3
    linear = trained(tower(crosses=0))
    np.testing.assert_array_equal(linear({**given, "user": given["user"][::-1]}).numpy(), linear(given).numpy())


def test_position_counts_in_training_and_never_when_it_ranks() -> None:
    given, built = batch(), trained(tower(crosses=0))
    elsewhere = {**given, "position": given["position"][:, ::-1].copy()}
    np.testing.assert_array_equal(built(elsewhere).numpy(), built(given).numpy())
    difference = built(elsewhere, training=True).numpy() - built(given, training=True).numpy()
    assert np.abs(difference[..., 0]).max() > 1e-2
    np.testing.assert_array_equal(difference[..., 1], 0)
    nowhere = {**given, "position": given["position"] * 0}
    np.testing.assert_allclose(built(nowhere, training=True).numpy(), built(given).numpy(), atol=1e-6)


def test_what_was_not_shown_has_neither_loss_nor_gradient() -> None:
    given, built = batch(), trained(tower(crosses=2))
    features = tf.constant(given["features"])
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = built.compute_loss(given, None, built({**given, "features": features}, training=True))
    gradient = tape.gradient(loss, features).numpy()
    assert np.abs(gradient[given["present"]]).max() > 0
    np.testing.assert_array_equal(gradient[~given["present"]], 0)
    wild = {**given, "features": np.where(given["present"][..., None], given["features"], 9).astype(np.float32)}
    assert float(built.compute_loss(wild, None, built(wild))) == pytest.approx(
        float(built.compute_loss(given, None, built(given))), rel=1e-5
    )


def test_the_loss_is_the_softmax_over_the_slate_and_the_cross_entropy_of_other_tasks() -> None:
    given, built = batch(), trained(tower(crosses=0))
    logits = built(given).numpy()
    first, other = 0.0, 0.0
    for row in range(4):
        here = given["present"][row]
        score, click = logits[row, here, 0], given["labels"][row, here, 0]
        first -= float((np.log(np.exp(score) / np.exp(score).sum()) * click).sum() / click.sum()) / 4
        probability, read = 1 / (1 + np.exp(-logits[row, here, 1])), given["labels"][row, here, 1]
        other -= float((read * np.log(probability) + (1 - read) * np.log(1 - probability)).sum())
    found = float(built.compute_loss(given, None, tf.constant(logits)))
    assert found == pytest.approx(first + other / given["present"].sum(), rel=1e-4)


@pytest.mark.parametrize("crosses", [0, 2])
def test_training_lowers_the_loss_and_moves_every_trainable_weight(crosses: int) -> None:
    given, built = batch(), tower(crosses=crosses)
    built.compile(optimizer=keras.optimizers.Adam(0.02), jit_compile=False)
    before = [weight.numpy() for weight in built.trainable_weights]
    fixed = [weight.numpy() for weight in built.non_trainable_weights]
    losses = [float(built.train_on_batch(given)) for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]
    for weight, old in zip(built.trainable_weights, before, strict=True):
        assert np.abs(weight.numpy() - old).max() > 0, weight.path
    for weight, old in zip(built.non_trainable_weights, fixed, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_calibration_changes_values_and_no_order() -> None:
    given, built = batch(), trained(tower(crosses=2))
    plain = built.log_odds(given).numpy()
    built.calibrate([0.5, 2.0], [-1.0, 1.0])
    found = built.log_odds(given).numpy()
    np.testing.assert_allclose(found, plain * [0.5, 2.0] + [-1.0, 1.0], rtol=1e-5)
    with pytest.raises(ValueError, match="above zero"):
        built.calibrate([0.5, 0.0], [0.0, 0.0])


def test_a_constant_feature_is_no_reason_to_divide_by_zero() -> None:
    given, built = batch(), trained(tower(crosses=2))
    built.adapt(np.zeros(len(FEATURES)), np.zeros(len(FEATURES)))
    assert np.isfinite(built(given).numpy()).all()


def test_features_are_chosen_by_name() -> None:
    given = batch()
    built = trained(tower(features=("appeal", "tags"), crosses=0))
    other = given["features"].copy()
    other[..., FEATURES.index("retrieval")] += 5
    np.testing.assert_array_equal(built({**given, "features": other}).numpy(), built(given).numpy())
    with pytest.raises(ValueError, match="weather"):
        RankingTower(TASKS, features=("weather",))


def test_items_are_ordered_by_the_weighted_log_odds_of_the_tasks() -> None:
    given = batch()
    built = trained(tower(crosses=0, objective=(1.0, 0.5)))
    odds = built.log_odds(given).numpy()
    np.testing.assert_allclose(built.score(odds).numpy(), odds[..., 0] + 0.5 * odds[..., 1], rtol=1e-5, atol=1e-6)
    alone = trained(tower(crosses=0))
    np.testing.assert_allclose(alone.score(odds).numpy(), odds[..., 0], rtol=1e-6)


def test_what_is_not_known_counts_as_average() -> None:
    given, built = batch(), trained(tower(crosses=2))
    mean = np.linspace(-1, 1, len(FEATURES))
    built.adapt(mean, np.ones(len(FEATURES)))
    place = FEATURES.index("freshness")
    unknown, average = given["features"].copy(), given["features"].copy()
    unknown[..., place], average[..., place] = np.nan, mean[place]
    found = built({**given, "features": unknown}).numpy()
    np.testing.assert_allclose(found, built({**given, "features": average}).numpy(), atol=1e-5)
    assert np.isfinite(found).all()
