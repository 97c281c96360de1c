"""The upper layers of an encoder over stored states, against the whole encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from towers.behaviour import BehaviourTower
from towers.content import ContentTower
from towers.features import ItemTable
from towers.finetuning import LayerwiseAdamW, TextTop, check_split, layer_factors
from towers.runtime import keras, keras_hub, seed_everything, tf
from towers.text import TextEncoder
from towers.two_tower import TwoTower

TEXTS = ["", "storm closes the harbour", "goal", "minister vote budget", "bread and salt in the oven", "wind"]


@pytest.fixture(scope="module")
def deep_preset(tiny_preset: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three layers, no dropout."""
    keras.utils.set_random_seed(6)
    folder = str(tmp_path_factory.mktemp("preset") / "deep")
    tokenizer = keras_hub.models.BertTokenizer.from_preset(tiny_preset)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=3,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        dropout=0.0,
    )
    backbone.save_to_preset(folder)
    tokenizer.save_to_preset(folder)
    return folder


def encoder(preset: str) -> TextEncoder:
    return TextEncoder(preset, max_tokens=12)


def states(whole: TextEncoder, cut: int, rows: list[int]) -> dict[str, tf.Tensor]:
    """Hidden states of `TEXTS[row]`, shortest first, as the pipeline gives them."""
    tokens = whole.tokenize(tf.constant(TEXTS))
    found = whole.lower(cut)(tokens).numpy()
    lengths = tokens["padding_mask"].numpy().sum(axis=1) * np.array([text != "" for text in TEXTS])
    rows = sorted(rows, key=lambda row: lengths[row])
    return {
        "encoded": tf.constant(rows, tf.int32),
        "states": tf.concat([found[row, : lengths[row]] for row in rows], axis=0),
        "lengths": tf.constant(lengths[rows], tf.int32),
    }


@pytest.mark.parametrize("cut", [0, 1, 2])
@pytest.mark.parametrize("rows", [[1, 2, 3, 4, 5], [0, 4], [2], [0]])
def test_lower_and_upper_layers_are_the_encoder(deep_preset: str, cut: int, rows: list[int]) -> None:
    whole = encoder(deep_preset)
    check_split(whole, cut)
    given = states(whole, cut, rows)
    found = TextTop(whole, cut)(given["states"], given["lengths"]).numpy()
    expected = whole.encode(tf.constant([TEXTS[row] for row in given["encoded"].numpy()])).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def model(preset: str, cut: int) -> TwoTower:
    seed_everything(4)
    whole = encoder(preset)
    vectors = whole.encode(tf.constant(TEXTS)).numpy()
    column = np.zeros(len(TEXTS), np.int32)
    table = ItemTable.from_arrays(vectors, column, column[:, None], column, column)
    built = TwoTower(ContentTower(16), BehaviourTower(encoder="mean"), table, text_top=TextTop(whole, cut))
    built.build({"history": (None, 3)})
    built.text_top.thaw(cut)
    return built


def batch(whole: TextEncoder | None = None, cut: int = 1) -> dict[str, Any]:
    given = {
        "history": np.array([[1, 2, 0], [3, 1, 2], [0, 0, 0], [4, 0, 0]], np.int32),
        "age_seconds": np.full((4, 3), 60, np.float32),
        "dwell_seconds": np.full((4, 3), 5, np.float32),
        "scroll_depth": np.full((4, 3), 0.5, np.float32),
        "language": np.zeros(4, np.int32),
        "device": np.zeros(4, np.int32),
        "time_seconds": np.zeros(4, np.int64),
        "positive": np.array([4, 5, 4, 1], np.int32),
        "probability": np.full(4, 0.25, np.float32),
        "weight": np.ones(4, np.float32),
        "shown": np.array([[1, 2], [1, 0], [0, 0], [5, 2]], np.int32),
    }
    return given if whole is None else {**given, **states(whole, cut, [1, 2, 3, 4, 5])}


def naive_loss(built: TwoTower, given: dict[str, Any]) -> tf.Tensor:
    """The whole encoder for every occurrence of an article, padded to the limit."""
    whole = built.text_top.encoder.value

    def embed_items(index: Any, training: bool = False, fresh: Any = None) -> tf.Tensor:
        flat = tf.reshape(tf.convert_to_tensor(index), [-1])
        tokens = whole.tokenize(tf.gather(tf.constant(TEXTS), flat))
        known = tf.cast(flat > 0, tf.float32)[:, None]
        vectors = tf.reshape(whole(tokens) * known, [*index.shape, 16])
        return built.content({"text": vectors}, training=training)

    kept, built.embed_items = built.embed_items, embed_items  # type: ignore[method-assign]
    try:
        return built.compute_loss(given, None, built(given, training=True))
    finally:
        built.embed_items = kept  # type: ignore[method-assign]


def test_encoding_once_gives_the_naive_loss_and_gradients(deep_preset: str) -> None:
    built = model(deep_preset, cut=1)
    given = batch(built.text_top.encoder.value)
    weights = [weight.value for weight in built.text_top.trainable_weights]
    with tf.GradientTape() as tape:
        once = built.compute_loss(given, None, built(given, training=True))
    found = tape.gradient(once, weights)
    with tf.GradientTape() as tape:
        naive = naive_loss(built, batch())
    expected = tape.gradient(naive, weights)
    assert float(once) == pytest.approx(float(naive), rel=1e-5)
    largest = max(float(tf.reduce_max(tf.abs(gradient))) for gradient in expected)
    for weight, left, right in zip(weights, found, expected, strict=True):
        np.testing.assert_allclose(left.numpy(), right.numpy(), atol=1e-5 * max(1.0, largest), err_msg=weight.name)
    assert largest > 1e-3


def test_what_is_not_encoded_keeps_the_vector_of_the_table(deep_preset: str) -> None:
    built = model(deep_preset, cut=2)
    whole = built.text_top.encoder.value
    built.items.text.assign(tf.random.stateless_normal(built.items.text.shape, [1, 2]))
    fresh = tf.constant([4, 2]), whole.encode(tf.constant([TEXTS[4], TEXTS[2]]))
    found = built.embed_items(tf.constant([[0, 1], [2, 4]]), fresh={"text": fresh}).numpy()
    np.testing.assert_array_equal(found[0, 0], 0)
    np.testing.assert_allclose(found[0, 1], built.items.text.numpy()[1], atol=1e-6)
    np.testing.assert_allclose(found[1], whole.encode(tf.constant([TEXTS[2], TEXTS[4]])).numpy(), atol=1e-5)


@pytest.mark.parametrize("lora_rank", [None, 2])
def test_only_what_is_thawed_moves(deep_preset: str, lora_rank: int | None) -> None:
    top = TextTop(encoder(deep_preset), 1, lora_rank=lora_rank)
    top.thaw(None)
    assert not top.trainable_weights
    top.thaw(2)
    frozen = [weight.numpy() for weight in top.blocks[0].weights]
    optimizer = LayerwiseAdamW(0.01)
    given = states(top.encoder.value, 1, [1, 2, 3, 4])
    before = {weight.path: weight.numpy() for weight in top.trainable_weights}
    for _ in range(2):  # the second factor of a low-rank difference starts at zero: the first one moves a step later
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(top(given["states"], given["lengths"], training=True)[:, :3] ** 2)
        weights = top.trainable_weights
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
    assert all(np.array_equal(old, new.numpy()) for old, new in zip(frozen, top.blocks[0].weights, strict=True))
    moved = [
        path
        for path, weight in zip(before, top.trainable_weights, strict=True)
        if np.any(weight.numpy() != before[path])
    ]
    if lora_rank is None:
        assert len(moved) >= len(before) - 1  # a bias of the keys cancels out in attention
    else:
        assert {path.split("/")[-1] for path in before} == {"lora_kernel_a", "lora_kernel_b"}
        assert len(moved) == len(before) == 4


def test_layers_that_are_not_there_are_refused(deep_preset: str) -> None:
    for cut in (-1, 3):
        with pytest.raises(ValueError, match="layers 0 to 2"):
            TextTop(encoder(deep_preset), cut)


def test_the_rate_falls_from_layer_to_layer(deep_preset: str) -> None:
    top = TextTop(encoder(deep_preset), 1)
    factors = layer_factors(top, 0.5, 0.8)
    for block, expected in zip(top.blocks, (0.4, 0.5), strict=True):
        assert {factors[weight.path] for weight in block.weights} == {expected}


def test_a_weight_moves_and_decays_at_its_own_rate() -> None:
    weights = [keras.Variable(np.ones(3, np.float32), name=name) for name in ("slow", "fast", "bias")]
    optimizer = LayerwiseAdamW(
        0.1, factor=lambda path: 0.1 if "slow" in path else 1.0, weight_decay=0.5, without_decay=("bias",)
    )
    optimizer.apply_gradients([(tf.ones(3), weight) for weight in weights])
    # Adam's first step is the learning rate; the decay is its share of the weight before.
    for weight, rate, decay in zip(weights, (0.01, 0.1, 0.1), (0.5, 0.5, 0.0), strict=True):
        np.testing.assert_allclose(weight.numpy(), 1 - rate * decay - rate, atol=1e-5)


def test_a_weight_that_thaws_late_begins_like_one_that_thawed_early() -> None:
    early, late = (keras.Variable(np.zeros(2, np.float32), name=name) for name in ("early", "late"))
    optimizer = LayerwiseAdamW(0.1, warmup_steps=4)
    optimizer.build([early, late])
    path = []
    for _ in range(6):
        optimizer.apply_gradients([(tf.ones(2), early)])
        path.append(early.numpy().copy())
    for place in range(6):
        optimizer.apply_gradients([(tf.ones(2), late)])
        np.testing.assert_allclose(late.numpy(), path[place], rtol=1e-4)
    # With a gradient that never changes Adam moves by the rate, which rises over four steps and stays.
    np.testing.assert_allclose(
        -np.diff([0.0, *(float(each[0]) for each in path)]), [0.025, 0.05, 0.075, 0.1, 0.1, 0.1], rtol=1e-4
    )


def test_it_is_keras_own_adamw_where_all_rates_are_one() -> None:
    ours, theirs = (keras.Variable(np.array([1.0, -2.0, 3.0], np.float32), name="weight") for _ in range(2))
    first, second = LayerwiseAdamW(0.05, weight_decay=0.1), keras.optimizers.AdamW(0.05, weight_decay=0.1)
    for step in range(5):
        gradient = tf.constant([1.0, float(step), -0.5])
        first.apply_gradients([(gradient, ours)])
        second.apply_gradients([(gradient, theirs)])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4)
