from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from towers.behaviour import BehaviourTower
from towers.content import ContentTower
from towers.features import ItemTable
from towers.runtime import keras, seed_everything, tf
from towers.two_tower import TwoTower, others, own_slate, unseen

ITEMS = 12


def table() -> ItemTable:
    rng = np.random.default_rng(6)
    text = rng.normal(size=(ITEMS + 1, 8)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    text[0] = 0
    column = np.arange(ITEMS + 1, dtype=np.int32)
    tags = np.stack([column % 4, column % 2], axis=1) * (column > 0)[:, None]
    return ItemTable.from_arrays(text, column % 3 * (column > 0), tags, column * 0, column)


def model(**changes: float) -> TwoTower:
    seed_everything(7)
    built = TwoTower(
        ContentTower(8, categories=2, items=ITEMS),
        BehaviourTower(units=4, devices=2, time_of_day=True),
        table(),
        **changes,
    )
    built.build({"history": (None, 3)})
    rng = np.random.default_rng(8)
    built.set_weights([w + rng.normal(scale=0.1, size=w.shape).astype("f4") for w in built.get_weights()])
    return built


def batch() -> dict[str, np.ndarray]:
    return {
        "history": np.array([[1, 2, 0], [3, 0, 0], [0, 0, 0], [5, 6, 7]], np.int32),
        "age_seconds": np.full((4, 3), 60, np.float32),
        "dwell_seconds": np.full((4, 3), 5, np.float32),
        "scroll_depth": np.array([[0.2, 0.9, 0], [0.5, 0, 0], [0, 0, 0], [1, 0.1, 0.7]], np.float32),
        "language": np.zeros(4, np.int32),
        "device": np.array([0, 1, 2, 1], np.int32),
        "time_seconds": np.array([1_700_000_000, 0, 1_700_040_000, 1_700_050_000]),
        # Row 1 wants what row 0 has read; rows 2 and 3 want the same item.
        "positive": np.array([8, 2, 9, 9], np.int32),
        "shown": np.array([[10, 11], [12, 0], [0, 0], [1, 2]], np.int32),
        "probability": np.array([0.1, 0.2, 0.4, 0.4], np.float32),
        "weight": np.ones(4, np.float32),
    }


def log_softmax_loss(logits: np.ndarray, allowed: np.ndarray) -> float:
    logits = np.where(allowed, logits, -np.inf)
    top = logits.max(axis=1)
    return float((top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - np.diag(logits)).sum())


def tensors() -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in batch().items()}


def test_the_in_batch_loss_is_a_softmax_with_logq_without_hits_and_seen_items() -> None:
    two_tower, given = model(shown_weight=0.0), batch()
    users = two_tower(tensors()).numpy()
    positives = two_tower.embed_items(tf.constant(given["positive"])).numpy()
    logits = users @ positives.T - np.log(given["probability"])[None, :]
    allowed = given["positive"][None, :] != given["positive"][:, None]
    allowed &= ~(given["history"][:, :, None] == given["positive"][None, None, :]).any(axis=1)
    np.fill_diagonal(allowed, True)
    found = two_tower.compute_loss(x=tensors(), y_pred=two_tower(tensors()), training=False)
    assert float(found) == pytest.approx(log_softmax_loss(logits, allowed) / 4, rel=1e-5)
    assert not allowed[0, 1], "an item that the user has read is no negative"
    assert not allowed[2, 3], "the same item is no negative"


def test_the_shown_loss_compares_a_positive_with_its_own_slate_only() -> None:
    two_tower, given = model(in_batch_weight=0.0), batch()
    users = two_tower(tensors()).numpy()
    expected = 0.0
    for row in range(4):
        shown = given["shown"][row][given["shown"][row] > 0]
        items = two_tower.embed_items(tf.constant([given["positive"][row], *shown])).numpy()
        scores = items @ users[row]
        expected += np.log(np.exp(scores - scores[0]).sum())
    found = two_tower.compute_loss(x=tensors(), y_pred=two_tower(tensors()), training=False)
    assert float(found) == pytest.approx(expected / 4, rel=1e-5)


def test_rows_without_shown_items_add_nothing_to_the_shown_loss() -> None:
    two_tower = model(in_batch_weight=0.0)
    given = {**tensors(), "shown": tf.zeros((4, 2), tf.int32)}
    assert float(two_tower.compute_loss(x=given, y_pred=two_tower(given), training=False)) == pytest.approx(0, abs=1e-6)


def test_masks_match_their_definitions() -> None:
    given = tensors()
    seen = ~unseen(given).numpy()
    assert seen.tolist() == [[False, True, False, False], *[[False] * 4] * 3]
    mask = own_slate(given["shown"]).numpy()
    assert mask.shape == (4, 4 + 8)
    assert mask[:, :4].tolist() == np.eye(4, dtype=bool).tolist()
    assert [np.flatnonzero(row[4:]).tolist() for row in mask] == [[0, 1], [2], [], [6, 7]]


def test_padding_is_the_zero_vector() -> None:
    found = model().embed_items(tf.constant([[0, 1], [2, 0]])).numpy()
    np.testing.assert_array_equal(found[[0, 1], [0, 1]], 0)
    assert np.abs(found[0, 1]).max() > 0


@pytest.mark.parametrize("weights", [{}, {"shown_weight": 0.0}, {"in_batch_weight": 0.0}])
def test_training_through_keras_moves_every_weight_and_lowers_the_loss(weights: dict[str, float]) -> None:
    two_tower = model(**weights)
    two_tower.compile(optimizer=keras.optimizers.Adam(0.02), jit_compile=False)
    before = two_tower.get_weights()
    losses = [float(two_tower.train_on_batch(batch())) for _ in range(30)]
    assert losses[-1] < losses[0] * 0.9
    for weight, old in zip(two_tower.weights, before, strict=True):
        moved = not np.array_equal(weight.numpy(), old)
        assert moved == weight.trainable, weight.path


def test_keras_fit_runs_the_same_step() -> None:
    first, second = model(), model()
    for each in (first, second):
        each.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=False)
    first.fit(tf.data.Dataset.from_tensors(batch()), epochs=2, verbose=0)
    for _ in range(2):
        second.train_on_batch(batch())
    for left, right in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        model(in_batch_weight=0.0, shown_weight=0.0)


@pytest.mark.parametrize("column", range(5))
def test_an_item_table_keeps_row_0_for_padding(column: int) -> None:
    columns: list[Any] = [np.zeros((2, 3), np.float32), *(np.zeros(2, np.int32) for _ in range(4))]
    columns[2] = np.zeros((2, 4), np.int32)
    columns[column][0] = 1
    with pytest.raises(ValueError, match="row 0"):
        ItemTable.from_arrays(*columns)


def read() -> np.ndarray:
    """(4, N + 1): the histories of `batch`, and item 4 for everybody."""
    found = np.zeros((4, ITEMS + 1), bool)
    for row, items in enumerate(batch()["history"]):
        found[row, items[items > 0]] = True
    found[:, 4] = True
    return found


@pytest.mark.parametrize("hard", [None, 2])
def test_the_catalogue_loss_is_a_softmax_over_what_was_not_read(hard: int | None) -> None:
    two_tower = model(in_batch_weight=0.0, shown_weight=0.0, catalogue_weight=1.0, hard_negatives=hard)
    given = {**tensors(), "read": tf.constant(read())}
    users = two_tower(given).numpy()
    items = two_tower.embed_items(tf.range(ITEMS + 1)).numpy()
    logits, allowed = users @ items.T, others({name: tf.constant(v) for name, v in given.items()}).numpy()
    expected = 0.0
    for row, positive in enumerate(batch()["positive"]):
        negatives = np.sort(logits[row][allowed[row]])[::-1][:hard]
        expected -= logits[row, positive] - np.log(np.exp(np.r_[logits[row, positive], negatives]).sum())
    found = two_tower.compute_loss(given, None, two_tower(given, training=True))
    assert float(found) == pytest.approx(expected / 4, rel=1e-4)


def test_an_item_is_embedded_as_a_view_and_stays_the_item() -> None:
    real = model(catalogue_weight=1.0)
    items, rng = real.items, np.random.default_rng(9)
    # Two views of item 9, and one more that no positive takes.
    views = np.array([9, 9, 1])
    columns = [np.r_[each.numpy(), each.numpy()[views]] for each in (items.category, items.tags, items.language)]
    text = np.r_[items.text.numpy(), rng.normal(size=(3, 8)).astype(np.float32)]
    longer = ItemTable.from_arrays(text, *columns, np.r_[items.item.numpy(), 0, 0, 0])
    twin = TwoTower(real.content, real.behaviour, longer, views=3, catalogue_weight=1.0)
    twin.build({"history": (None, 3)})
    given = {**tensors(), "read": tf.constant(read())}
    assert all(one is other for one, other in zip(twin.weights, real.weights, strict=True))
    as_items = {**given, "view": given["positive"]}
    plain = real.compute_loss(given, None, real(given, training=True))
    assert float(twin.compute_loss(as_items, None, twin(as_items, training=True))) == pytest.approx(float(plain))

    shown_view = np.array([[10, 11], [12, 0], [0, 0], [ITEMS + 3, 2]], np.int32)
    seen = {**given, "view": tf.constant([8, 2, ITEMS + 1, ITEMS + 2]), "shown_view": tf.constant(shown_view)}
    users = twin(given).numpy()
    own = twin.embed_items(seen["view"]).numpy()
    everything = twin.embed_items(tf.range(ITEMS + 4)).numpy()
    logits = users @ own.T - np.log(batch()["probability"])
    # Rows 2 and 3 want the same item, seen as two views: no negatives of each other.
    hits = np.array([[1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 1]], bool)
    expected = log_softmax_loss(logits, hits)
    slate = [[10, 11], [12], [], [ITEMS + 3, 2]]
    for row in range(4):
        for negatives in (slate[row], np.flatnonzero(others(given).numpy()[row])):
            scores = np.r_[users[row] @ own[row], everything[list(negatives)] @ users[row]]
            expected -= scores[0] - np.log(np.exp(scores).sum())
    found = twin.compute_loss(seen, None, twin(seen, training=True))
    assert float(found) == pytest.approx(expected / 4, rel=1e-4)
    # With all items named, the loss over the catalogue takes their views too.
    every = {**seen, "all_view": tf.constant(np.r_[np.arange(9), 8, np.arange(10, ITEMS + 1)].astype(np.int32))}
    assert float(twin.compute_loss(every, None, twin(every, training=True))) != pytest.approx(float(found), rel=1e-4)


def test_neither_padding_nor_the_positive_nor_what_was_read_is_a_negative() -> None:
    found = others({"read": tf.constant(read()), "positive": tf.constant(batch()["positive"])}).numpy()
    assert not found[:, [0, 4]].any()
    assert not found[np.arange(4), batch()["positive"]].any()
    assert not found[read()].any()
    assert found[2].sum() == ITEMS - 2


def test_a_row_counts_by_its_weight() -> None:
    two_tower, given = model(shown_weight=0.0), tensors()

    def loss(weight: list[float]) -> float:
        weighted = {**given, "weight": tf.constant(weight)}
        return float(two_tower.compute_loss(weighted, None, two_tower(weighted)))

    each = [loss([float(row == place) for place in range(4)]) for row in range(4)]
    assert loss([1.0, 1.0, 1.0, 1.0]) == pytest.approx(sum(each), rel=1e-4)
    assert loss([2.0, 0.0, 0.5, 0.0]) == pytest.approx(2 * each[0] + 0.5 * each[2], rel=1e-4)


def test_training_on_the_catalogue_embeds_every_item_once_and_reaches_all_weights() -> None:
    two_tower = model(in_batch_weight=0.0, shown_weight=0.0, catalogue_weight=1.0)
    two_tower.compile(optimizer=keras.optimizers.Adam(0.01), jit_compile=False)
    before = [weight.numpy() for weight in two_tower.trainable_weights]
    given = {**batch(), "read": read()}
    losses = [float(two_tower.train_on_batch(given)) for _ in range(20)]
    assert losses[-1] < losses[0]
    still = [
        w.path for old, w in zip(before, two_tower.trainable_weights, strict=True) if np.array_equal(old, w.numpy())
    ]
    assert not still


def test_users_are_the_same_by_a_table_of_all_items() -> None:
    two_tower, training = model(), {"positive", "shown", "probability", "weight"}
    given = {name: value for name, value in tensors().items() if name not in training}
    table = two_tower.embed_items(tf.range(ITEMS + 1))
    np.testing.assert_allclose(two_tower.embed_users_by(given, table).numpy(), two_tower(given).numpy(), atol=1e-5)
