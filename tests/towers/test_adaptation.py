from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from towers.adaptation import Adapted, DomainHead, gradient_reversal
from towers.behaviour import BehaviourTower
from towers.content import ContentTower
from towers.features import ItemTable
from towers.runtime import keras, seed_everything, tf
from towers.two_tower import TwoTower

ITEMS, WIDTH = 200, 8


def test_the_reversal_is_the_identity_and_its_gradient_the_negative_times_the_strength() -> None:
    x = tf.Variable([[1.0, -2.0, 3.0]])
    with tf.GradientTape(persistent=True) as tape:
        plain = tf.reduce_sum(x**3)
        reversed_ = gradient_reversal(x, 0.25)
        turned = tf.reduce_sum(reversed_**3)
    assert np.array_equal(reversed_, x)
    assert np.array_equal(tape.gradient(turned, x), -0.25 * tape.gradient(plain, x))


def test_the_head_itself_learns_alike_and_the_embedding_the_other_way() -> None:
    embedding, domain = tf.Variable(np.random.default_rng(1).normal(size=(6, 4)).astype("f4")), tf.constant([0, 1] * 3)
    found = []
    for strength in (None, 0.5):
        seed_everything(1)
        head = DomainHead(2, units=3, strength=strength)
        head.build((None, 4))
        with tf.GradientTape() as tape:
            loss = head.loss(embedding, domain)
        found.append(tape.gradient(loss, [embedding, *head.trainable_weights]))
    (plain, *own), (turned, *own_too) = found
    assert np.allclose(turned, -0.5 * plain.numpy(), atol=1e-7)
    assert np.abs(plain).max() > 0
    assert all(np.array_equal(left, right) for left, right in zip(own, own_too, strict=True))


def test_one_domain_is_refused() -> None:
    with pytest.raises(ValueError, match="two domains, not 1"):
        DomainHead(1)


def test_the_head_does_not_see_the_length_of_an_embedding() -> None:
    head = DomainHead(2)
    head.build((None, 4))
    vectors = tf.constant(np.random.default_rng(1).normal(size=(5, 4)).astype("f4"))
    assert np.allclose(head(vectors), head(100.0 * vectors), atol=1e-5)


def toy() -> tuple[np.ndarray, np.ndarray]:
    """Texts whose first value gives the domain away; the others are noise."""
    rng = np.random.default_rng(4)
    domain = np.arange(ITEMS) % 2
    text = rng.normal(size=(ITEMS, WIDTH))
    text[:, 0] = np.where(domain == 1, 1.0, -1.0) + 0.6 * rng.normal(size=ITEMS)
    return text.astype(np.float32), domain


def trained(strength: float | None) -> tuple[float, float]:
    """The head's accuracy, and that of a linear probe of the embeddings on items that it was not fitted on."""
    seed_everything(2)
    text, domain = toy()
    nothing = np.zeros(ITEMS + 1, np.int32)
    items = ItemTable.from_arrays(
        np.vstack([np.zeros((1, WIDTH), np.float32), text]), nothing, nothing[:, None], nothing, nothing
    )
    towers = TwoTower(ContentTower(WIDTH), BehaviourTower(encoder="mean", units=4), items)
    towers.build({"history": (None, 2)})
    model = Adapted(towers, DomainHead(2, strength=strength, penalty=0.2), weight=1.0)
    slow, fast = keras.optimizers.Adam(0.005), keras.optimizers.Adam(0.05)
    content, head = model.towers.content.trainable_weights, model.head.trainable_weights

    @tf.function
    def step(rows: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            loss = model.head.loss(towers.embed_items(rows, training=True), labels)
        slopes = tape.gradient(loss, [*content, *head])
        slow.apply(slopes[: len(content)], content)
        fast.apply(slopes[len(content) :], head)

    rng = np.random.default_rng(5)
    for _ in range(300):
        rows = rng.integers(0, ITEMS, 64)
        step(tf.constant(rows + 1, tf.int32), tf.constant(domain[rows], tf.int32))
    embedding = towers.embed_items(tf.range(1, ITEMS + 1))
    told = model.head(embedding).numpy().argmax(axis=1) == domain
    unit = embedding.numpy() / np.linalg.norm(embedding, axis=1, keepdims=True)
    half = np.arange(ITEMS) < ITEMS // 2
    probe = LogisticRegression().fit(unit[half], domain[half])
    return float(told.mean()), float(probe.score(unit[~half], domain[~half]))


def test_the_domain_is_learned_in_multi_task_training_and_lost_in_adversarial_training() -> None:
    text, domain = toy()
    half = np.arange(ITEMS) < ITEMS // 2
    unit = text / np.linalg.norm(text, axis=1, keepdims=True)
    before = LogisticRegression().fit(unit[half], domain[half]).score(unit[~half], domain[~half])
    helped, hidden = trained(None), trained(1.0)
    assert before > 0.85
    assert helped[0] > 0.9
    assert helped[1] >= before - 0.02
    assert hidden[1] < 0.65
