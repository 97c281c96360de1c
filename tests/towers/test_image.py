from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from towers.image import ImageEncoder
from towers.runtime import keras, tf

SIZE = 16


def picture(seed: int, width: int = 24, height: int = 20, form: str = "PNG") -> bytes:
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(file, form)
    return file.getvalue()


@pytest.fixture(scope="module")
def encoder(tiny_image_preset: str) -> ImageEncoder:
    return ImageEncoder(tiny_image_preset, SIZE)


def test_vectors_have_unit_length_and_no_image_is_zero(encoder: ImageEncoder) -> None:
    found = tf.function(encoder.encode)(tf.constant([picture(0), b"", picture(1, form="JPEG")])).numpy()
    assert found.shape == (3, encoder.width)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 0, 1], atol=1e-5)


def test_an_image_is_encoded_alike_in_any_company(encoder: ImageEncoder) -> None:
    files = [picture(seed, width=20 + seed) for seed in range(4)]
    together = encoder.encode(tf.constant(files)).numpy()
    alone = [encoder.encode(tf.constant([file])).numpy()[0] for file in files]
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (40, 16), (16, 40), (7, 9), (1, 1)])
def test_any_shape_becomes_the_middle_square(encoder: ImageEncoder, shape: tuple[int, int]) -> None:
    assert encoder.decode(tf.constant([picture(3, *shape)])).shape == (1, SIZE, SIZE, 3)


def test_the_middle_of_a_wide_image_counts_and_its_sides_do_not(encoder: ImageEncoder) -> None:
    def wide(side: int) -> bytes:
        pixels = np.full((SIZE, 3 * SIZE, 3), side, np.uint8)
        pixels[:, SIZE : 2 * SIZE] = np.random.default_rng(4).integers(0, 255, (SIZE, SIZE, 3))
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    left, right = encoder.decode(tf.constant([wide(0), wide(255)])).numpy()
    np.testing.assert_array_equal(left, right)


def test_grey_and_transparent_images_are_read_too(encoder: ImageEncoder) -> None:
    for mode in ("L", "RGBA"):
        file = io.BytesIO()
        Image.new(mode, (20, 20), 90 if mode == "L" else (90, 90, 90, 128)).save(file, "PNG")
        np.testing.assert_array_equal(encoder.decode(tf.constant([file.getvalue()])).numpy(), 90)


def test_what_is_no_image_is_an_error(encoder: ImageEncoder) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        encoder.decode(tf.constant([picture(0)[:100]]))


def test_freezing_leaves_nothing_to_train_and_statistics_thaw_only_where_asked(tiny_image_preset: str) -> None:
    pixels = np.random.default_rng(5).integers(0, 255, (4, SIZE, SIZE, 3), dtype=np.uint8)
    for renewed in (False, True):
        encoder = ImageEncoder(tiny_image_preset, SIZE, train_batch_norm=renewed)
        encoder.thaw(False)
        assert not encoder.trainable_weights
        encoder.thaw(True)
        assert encoder.trainable_weights
        statistics = [weight for weight in encoder.weights if "moving" in weight.path]
        before = [weight.numpy() for weight in statistics]
        encoder(pixels, training=True)
        moved = [not np.array_equal(old, new.numpy()) for old, new in zip(before, statistics, strict=True)]
        assert all(moved) if renewed else not any(moved)


def test_training_sees_moved_images_and_answers_do_not(tiny_image_preset: str) -> None:
    encoder = ImageEncoder(tiny_image_preset, SIZE)
    encoder.thaw(False)
    pixels = encoder.decode(tf.constant([picture(6), picture(7)]))
    still = encoder(pixels).numpy()
    np.testing.assert_array_equal(encoder(pixels).numpy(), still)
    assert np.abs(encoder(pixels, training=True).numpy() - still).max() > 1e-3
    plain = ImageEncoder(tiny_image_preset, SIZE, augment=False)
    plain.thaw(False)
    np.testing.assert_allclose(plain(pixels, training=True).numpy(), still, atol=1e-6)


def test_gradients_reach_the_lowest_layer(encoder: ImageEncoder) -> None:
    encoder.thaw(True)
    with tf.GradientTape() as tape:
        vectors = encoder(encoder.decode(tf.constant([picture(8), picture(9)])), training=True)
        loss = tf.reduce_sum(vectors[0] * vectors[1])
    gradients = tape.gradient(loss, [weight.value for weight in encoder.trainable_weights])
    assert all(gradient is not None and np.abs(gradient.numpy()).max() > 0 for gradient in gradients)


def test_a_text_backbone_is_refused(tiny_preset: str) -> None:
    with pytest.raises(ValueError, match="no image encoder"):
        ImageEncoder(tiny_preset, SIZE)


def test_the_scaling_of_a_preset_is_its_own(tiny_image_preset: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    from towers.runtime import keras_hub

    folder = str(tmp_path_factory.mktemp("scaled") / "preset")
    keras.utils.set_random_seed(5)
    keras_hub.models.Backbone.from_preset(tiny_image_preset).save_to_preset(folder)
    keras_hub.layers.ResNetImageConverter(scale=[0.1, 0.2, 0.3], offset=[1.0, 2.0, 3.0]).save_to_preset(folder)
    encoder = ImageEncoder(folder, SIZE)
    np.testing.assert_allclose(encoder.scale.numpy(), [0.1, 0.2, 0.3])
    np.testing.assert_allclose(encoder.offset.numpy(), [1, 2, 3])
