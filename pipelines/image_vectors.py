"""Image vectors of a catalogue, and its decoded images for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.item_images import ItemImages
from pipelines.encode import load_preset
from pipelines.presets import fingerprint, locate_preset
from pipelines.progress import say
from pipelines.recipe import Image, ImageTuning
from pipelines.vector_cache import kept_vectors, key_of


def load_image_encoder(image: Image, tuning: ImageTuning | None) -> Any:
    """The image encoder that a recipe names.

    Raises:
        BadInput: The preset is unknown, is no image preset, or its hub cannot be reached.
    """

    def load(location: str) -> Any:
        from towers.image import ImageEncoder

        if tuning is None:
            return ImageEncoder(location, image.size)
        return ImageEncoder(location, image.size, augment=tuning.augment, train_batch_norm=tuning.batch_norm)

    return load_preset(image.preset, "image", load)


def frozen_image_table(images: ItemImages, image: Image) -> np.ndarray:
    """(N + 1, V) vectors by the preset as it is; kept on disk."""
    return image_table(images, lambda: load_image_encoder(image, None), version_of(image))


def version_of(image: Image) -> str:
    """Names the preset's weights and the settings that vectors depend on."""
    return f"{fingerprint(locate_preset(image.preset))} {image.size}"


def image_table(images: ItemImages, encoder: Any, version: str) -> np.ndarray:
    """(N + 1, V) float32 vectors of a catalogue's images, zero where there is none; computed once and kept on disk.

    Args:
        encoder: A `towers.image.ImageEncoder`, or a function that loads one if it is needed.
        version: Names the encoder's weights and settings, so that vectors of two are never mixed.
    """
    own: dict[bytes, list[int]] = {}
    for rows, files in images.blocks():
        for row, file in zip(rows, files, strict=True):
            own.setdefault(key_of(file), []).append(int(row))
    keys = list(own)

    @cache
    def loaded() -> Any:
        return encoder if hasattr(encoder, "decode") else encoder()

    def make(missing: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        place = {own[keys[each]][0]: each for each in missing.tolist()}
        for rows, pixels in _decoded(images, loaded(), set(place)):
            yield np.array([place[row] for row in rows.tolist()]), loaded()(pixels, training=False).numpy()

    found = kept_vectors("image", version, keys, make)
    width = len(next(iter(found.values()))) if found else loaded().width
    table = np.zeros((len(images.ids) + 1, width), np.float32)
    for key, vector in found.items():
        table[own[key]] = vector
    return table


def _decoded(
    images: ItemImages, encoder: Any, wanted: set[int] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and pixels (B, S, S, 3) uint8 of all images, or of the rows `wanted`, that can be decoded.

    The others are counted and told of.
    """
    from towers.runtime import tf

    decode: Callable[[Any], Any] = tf.function(encoder.decode, input_signature=[tf.TensorSpec([None], tf.string)])
    broken = 0
    for rows, files in images.blocks():
        if wanted is not None:
            kept = [place for place, row in enumerate(rows.tolist()) if row in wanted]
            rows, files = rows[kept], [files[place] for place in kept]
            if not kept:
                continue
        try:
            yield rows, decode(tf.constant(files)).numpy()
            continue
        except tf.errors.InvalidArgumentError:
            pass  # one of them: find out which
        for row, file in zip(rows, files, strict=True):
            try:
                pixels = decode(tf.constant([file])).numpy()
            except tf.errors.InvalidArgumentError:
                broken += 1
            else:
                yield np.array([row]), pixels
    if broken:
        say(f"{broken:,} image(s) cannot be decoded: these items count as having none")


@dataclass(frozen=True)
class ImagePixels:
    """Decoded images on disk.

    Attributes:
        values: (P, S, S, 3) uint8; the system keeps in memory what is used.
        place: (N + 1,) of each row in `values`, -1 for no image.
    """

    values: np.ndarray
    place: np.ndarray

    @classmethod
    def decoded(cls, images: ItemImages, encoder: Any, folder: Path) -> ImagePixels:
        """Decode a catalogue's images into a file in `folder`."""
        path, place, count = folder / "pixels.u8", np.full(len(images.ids) + 1, -1), 0
        with path.open("wb") as file:
            for rows, pixels in _decoded(images, encoder):
                file.write(pixels.tobytes())
                place[rows] = count + np.arange(len(rows))
                count += len(rows)
        shape = (count, encoder.size, encoder.size, 3)
        return cls(np.memmap(path, np.uint8, "r", shape=shape) if count else np.zeros(shape, np.uint8), place)

    def of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The pixels of those of the distinct `rows` that have an image, as the two-tower model takes them."""
        rows = rows[self.place[rows] >= 0]
        return {"pictured": rows.astype(np.int32), "pixels": np.asarray(self.values[self.place[rows]])}
