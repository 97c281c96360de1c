from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.presets import locate_preset
from towers.runtime import keras_hub, tf
from towers.text import TextEncoder, TokenAttention, encode_fields, join_fields


@pytest.fixture(scope="module")
def encoder(tiny_preset: str) -> TextEncoder:
    return TextEncoder(tiny_preset, max_tokens=12)


def test_vectors_are_of_unit_length_and_an_empty_text_is_zero(encoder: TextEncoder) -> None:
    vectors = encoder.encode(tf.constant(["storm closes the harbour", "", "bread"])).numpy()
    assert vectors.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1], atol=1e-5)


def test_a_text_does_not_depend_on_what_it_is_batched_with(encoder: TextEncoder) -> None:
    alone = encoder.encode(tf.constant(["storm"])).numpy()[0]
    beside = encoder.encode(tf.constant(["storm", "minister vote budget parliament tax law after the storm"])).numpy()[
        0
    ]
    np.testing.assert_allclose(alone, beside, atol=1e-6)


def test_mean_pooling_equals_the_plain_computation(encoder: TextEncoder) -> None:
    tokens = encoder.tokenize(tf.constant(["goal in the cup match"]))
    states = encoder.backbone(tokens)["sequence_output"].numpy()[0]
    kept = states[tokens["padding_mask"].numpy()[0]].mean(axis=0)
    found = encoder.encode(tf.constant(["goal in the cup match"])).numpy()[0]
    np.testing.assert_allclose(found, kept / np.linalg.norm(kept), atol=1e-5)


def test_texts_beyond_the_limit_are_cut_not_refused(encoder: TextEncoder) -> None:
    text = " ".join(["storm"] * 500)
    assert np.isfinite(encoder.encode(tf.constant([text])).numpy()).all()
    assert encoder.tokenize(tf.constant([text]))["token_ids"].shape == (1, 12)


def test_accents_are_stripped_as_the_uncased_models_were_trained(encoder: TextEncoder) -> None:
    found = encoder.tokenize(tf.constant(["störm", "storm"]))["token_ids"].numpy()
    np.testing.assert_array_equal(found[0], found[1])


def test_tokenisation_runs_inside_a_graph(encoder: TextEncoder) -> None:
    graph = tf.function(encoder.encode, input_signature=[tf.TensorSpec([None], tf.string)])
    text = tf.constant(["ferry in the storm", "", "wine"])
    np.testing.assert_allclose(graph(text).numpy(), encoder.encode(text).numpy(), atol=1e-6)


def test_weights_and_resources_are_all_that_a_saved_model_needs(any_encoder: TextEncoder, tmp_path: Path) -> None:
    encode = tf.function(lambda text: {"vector": any_encoder.encode(text)})
    module = tf.Module()
    module.weights = [weight.value for weight in any_encoder.weights]
    module.resources = any_encoder.resources
    signature = encode.get_concrete_function(tf.TensorSpec([None], tf.string, name="text"))
    tf.saved_model.save(module, str(tmp_path), signatures={"encode": signature})
    text = tf.constant(["storm closes the harbour", ""])
    found = tf.saved_model.load(str(tmp_path)).signatures["encode"](text=text)["vector"]
    np.testing.assert_allclose(found.numpy(), any_encoder.encode(text).numpy(), atol=1e-6)


@pytest.mark.parametrize(("title", "body", "text"), [("a", "b", "a b"), ("a", "", "a"), ("", "b", "b"), ("", "", "")])
def test_title_and_body_become_one_text(title: str, body: str, text: str) -> None:
    assert join_fields(tf.constant([title]), tf.constant([body])).numpy()[0].decode() == text


def test_untrained_attention_is_the_mean_and_padding_never_counts(encoder: TextEncoder) -> None:
    attention = TokenAttention(16)
    states = np.random.default_rng(0).normal(size=(2, 5, 16)).astype(np.float32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    means = [states[0, :3].mean(axis=0), states[1].mean(axis=0)]
    np.testing.assert_allclose(attention(states, mask).numpy(), means, atol=1e-6)
    attention.query.assign(np.random.default_rng(1).normal(size=16))
    found = attention(states, mask).numpy()
    assert np.abs(found - means).max() > 0.05
    other = states.copy()
    other[0, 3:] = 9.0
    np.testing.assert_allclose(attention(other, mask).numpy()[0], found[0], atol=1e-6)


def test_every_way_to_read_title_and_body(encoder: TextEncoder) -> None:
    title, body = tf.constant(["storm", "goal", ""]), tf.constant(["harbour", "", ""])
    joined, alone, both = (encode_fields(encoder, way, title, body).numpy() for way in ("joined", "title", "separate"))
    np.testing.assert_allclose(joined, encoder.encode(tf.constant(["storm harbour", "goal", ""])).numpy(), atol=1e-6)
    np.testing.assert_allclose(alone, encoder.encode(title).numpy(), atol=1e-6)
    assert both.shape == (3, 32)
    np.testing.assert_allclose(np.linalg.norm(both[:, :16] + both[:, 16:], axis=1), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(both[1], np.r_[alone[1], np.zeros(16)], atol=1e-6)


def test_minilm_tells_topics_apart() -> None:
    encoder = TextEncoder(locate_preset("minilm"), max_tokens=32)
    assert encoder.width == 384
    assert isinstance(encoder.backbone, keras_hub.models.BertBackbone)
    storm, flood, goal = encoder.encode(
        tf.constant(["Storm closes the harbour", "Heavy rain floods the coast", "Late goal wins the cup final"])
    ).numpy()
    assert storm @ flood > storm @ goal + 0.1
