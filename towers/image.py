"""Image encoder: JPEG or PNG bytes to one vector each, decoding inside the graph."""

from __future__ import annotations

from typing import Any

from towers.runtime import keras, keras_hub, tf


class ImageEncoder(keras.layers.Layer):
    """A keras-hub image backbone (EfficientNet, ResNet and others) whose top is replaced by the mean over its last map.

    The vector has unit length. Pixels are scaled as the preset's own converter does; a preset without one gets them
    from 0 to 1. In training, images are turned and moved a little, unless told otherwise.

    Does not find out what an image shows where the preset has no trained weights: then it has to be trained.

    Args:
        preset: A folder or name that keras-hub's `from_preset` takes.
        size: S, to which images are cropped (the middle square) and resized.
        augment: Mirror and move the images of training steps.
        train_batch_norm: Let training steps use and renew the statistics of batch normalisation. Statistics of small
            batches are worse than pretrained ones; a backbone with random weights has no others.

    Call arguments: pixels (B, S, S, 3) uint8 as `decode` returns them. Returns: (B, V) float32.

    Raises:
        ValueError: The backbone gives no map of features.

    Example:
        >>> from towers import ImageEncoder
        >>> from towers.runtime import tf
        >>> encoder = ImageEncoder(image_preset, size=32)  # a folder that keras-hub's `save_to_preset` wrote
        >>> jpeg = tf.io.encode_jpeg(tf.zeros((40, 60, 3), tf.uint8))
        >>> tuple(encoder.encode(tf.stack([jpeg, jpeg])).shape), encoder.width
        ((2, 64), 64)
    """

    def __init__(
        self, preset: str, size: int, *, augment: bool = True, train_batch_norm: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.train_batch_norm = train_batch_norm
        self.backbone = keras_hub.models.Backbone.from_preset(preset)
        found = self.backbone.output_shape
        if not isinstance(found, tuple) or len(found) != 4:
            raise ValueError("the backbone gives no map of features, so it is no image encoder")
        self.width: int = found[-1]
        self.scale, self.offset = _scaling(preset)
        self.augmentation = [
            keras.layers.RandomFlip("horizontal", seed=1),
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="nearest", seed=2),
        ] * augment
        self.built = True

    def thaw(self, thawed: bool) -> None:
        """Train the backbone, or freeze it."""
        self.backbone.trainable = thawed
        if thawed and not self.train_batch_norm:
            for layer in self.backbone._flatten_layers():
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.trainable = False

    def decode(self, images: tf.Tensor) -> tf.Tensor:
        """(B,) strings, JPEG, PNG, GIF or BMP, to (B, S, S, 3) uint8; "" is black, anything else an error."""
        return tf.map_fn(
            lambda image: tf.cond(
                tf.strings.length(image) > 0,
                lambda: _square(tf.io.decode_image(image, channels=3, expand_animations=False), self.size),
                lambda: tf.zeros([self.size, self.size, 3], tf.uint8),
            ),
            images,
            fn_output_signature=tf.TensorSpec([self.size, self.size, 3], tf.uint8),
        )

    def call(self, pixels: tf.Tensor, training: bool = False) -> tf.Tensor:
        values = tf.cast(pixels, tf.float32)
        if training:
            for layer in self.augmentation:
                values = layer(values, training=True)
        map_BxSxSxV = self.backbone(values * self.scale + self.offset, training=training)
        return tf.math.l2_normalize(tf.reduce_mean(map_BxSxSxV, axis=[1, 2]), axis=-1)

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """(B,) strings to (B, V) vectors of unit length. No image, "", gets the zero vector: nothing is known of it."""
        known_Bx1 = tf.cast(tf.strings.length(images) > 0, tf.float32)[:, None]
        return self(self.decode(images)) * known_Bx1


def _square(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """The middle square (size, size, 3) uint8 of an image of any shape."""
    shape = tf.shape(pixels)
    side = tf.minimum(shape[0], shape[1])
    middle = tf.image.crop_to_bounding_box(pixels, (shape[0] - side) // 2, (shape[1] - side) // 2, side, side)
    resized = tf.image.resize(middle, [size, size], antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


def _scaling(preset: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Scale and offset of pixel values as the preset wants them."""
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except (ValueError, FileNotFoundError):  # a folder to which only a backbone was saved
        return tf.constant(1 / 255), tf.constant(0.0)
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return tf.constant(scale, tf.float32), tf.constant(offset, tf.float32)
