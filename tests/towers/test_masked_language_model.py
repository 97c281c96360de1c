from __future__ import annotations

import numpy as np
import pytest

from towers.masked_language_model import MaskedLanguageModel, special_ids
from towers.runtime import keras, keras_hub, tf
from towers.text import TextEncoder

TEXTS = [
    "storm closes the harbour and the ferry",
    "minister vote budget",
    "xylophone",
    "",
    "goal in the cup match after rain",
]
SIZES = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}


def seed(number: int) -> tf.Tensor:
    return tf.constant([7, number])


def test_a_share_of_the_words_is_chosen_and_most_of_them_masked(any_encoder: TextEncoder) -> None:
    model = MaskedLanguageModel(any_encoder)
    ids = any_encoder.tokenize(tf.constant(TEXTS * 200))["token_ids"].numpy()
    masked, chosen = (each.numpy() for each in model.mask(tf.constant(ids, tf.int32), seed(1)))
    special = np.isin(ids, special_ids(any_encoder.preprocessor.tokenizer))
    assert special.any()
    assert not chosen[special].any()
    np.testing.assert_array_equal(masked[~chosen], ids[~chosen])
    assert chosen[~special].mean() == pytest.approx(0.15, abs=0.02)
    assert (masked[chosen] == model.mask_id).mean() == pytest.approx(0.8, abs=0.04)
    # Another token is by chance the same one now and then.
    assert 0.06 < (masked[chosen] == ids[chosen]).mean() < 0.2
    put = set(masked[chosen & (masked != model.mask_id)])
    assert len(put) > 5
    assert not put & set(special_ids(any_encoder.preprocessor.tokenizer))


def test_masks_depend_on_the_seed_alone(any_encoder: TextEncoder) -> None:
    model = MaskedLanguageModel(any_encoder)
    ids = tf.cast(any_encoder.tokenize(tf.constant(TEXTS * 20))["token_ids"], tf.int32)
    first, again, other = (model.mask(ids, seed(number))[0].numpy() for number in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_loss_for_every_chosen_token_which_falls_with_training(any_encoder: TextEncoder) -> None:
    any_encoder.backbone.trainable = True
    model = MaskedLanguageModel(any_encoder)
    tokens = any_encoder.tokenize(tf.constant(TEXTS * 20))
    losses = model.losses_of(tokens, seed(1)).numpy()
    chosen = model.mask(tf.cast(tokens["token_ids"], tf.int32), seed(1))[1].numpy()
    assert losses.shape == (chosen.sum(),)
    vocabulary = any_encoder.backbone.token_embedding.input_dim
    assert losses.mean() == pytest.approx(np.log(vocabulary), rel=0.1)
    weights = [*model.encoder_weights, *model.head_weights]
    assert len({id(weight) for weight in weights}) == len(weights)
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(weights)

    @tf.function
    def step(number: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model.losses_of(tokens, tf.stack([7, number]), training=True))
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        assert all(each is not None for each in gradients)
        optimizer.apply(gradients, weights)

    for number in range(10):
        step(tf.constant(number))
    assert model.losses_of(tokens, seed(1)).numpy().mean() < losses.mean() - 0.3


def test_words_are_chosen_whole(tiny_preset: str) -> None:
    any_encoder = TextEncoder(tiny_preset, max_tokens=24)
    model = MaskedLanguageModel(any_encoder)
    ids = tf.cast(any_encoder.tokenize(tf.constant(["xyz storm qrs"] * 300))["token_ids"], tf.int32)
    chosen = model.mask(ids, seed(1))[1].numpy()
    np.testing.assert_array_equal(chosen[:, 1], chosen[:, 2])
    np.testing.assert_array_equal(chosen[:, 1], chosen[:, 3])
    np.testing.assert_array_equal(chosen[:, 5], chosen[:, 7])
    assert (chosen[:, 1] != chosen[:, 4]).any()
    assert (chosen[:, 1] != chosen[:, 5]).any()


def test_a_batch_without_a_chosen_word_has_no_losses(any_encoder: TextEncoder) -> None:
    assert MaskedLanguageModel(any_encoder).losses_of(any_encoder.tokenize(tf.constant([""])), seed(1)).shape == (0,)


def test_another_kind_of_backbone_is_refused(tiny_preset: str) -> None:
    any_encoder = TextEncoder(tiny_preset, max_tokens=8)
    any_encoder.backbone = keras_hub.models.ElectraBackbone(vocab_size=20, embedding_dim=8, **SIZES)
    with pytest.raises(ValueError, match="not ElectraBackbone with BertTokenizer"):
        MaskedLanguageModel(any_encoder)
