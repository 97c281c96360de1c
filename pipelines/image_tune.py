"""Trains the image encoder while the two-tower model trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.item_images import ItemImages
from pipelines.image_vectors import ImagePixels
from pipelines.progress import say
from pipelines.recipe import ImageTuning

_AT_ONCE = 64


class ImageTuner:
    """Thaws the image encoder on time, and gives every batch the pixels to encode.

    Args:
        model: A built `TwoTower` with an `image_encoder`.
        schedule: When it thaws.
        images: Of the catalogue.
        folder: For the decoded images; the caller removes it.
    """

    def __init__(self, model: Any, schedule: ImageTuning, images: ItemImages, folder: Path) -> None:
        self.model, self.schedule = model, schedule
        self.pixels = ImagePixels.decoded(images, model.image_encoder, folder)
        self._thawed = False
        self._some = np.flatnonzero(self.pixels.place >= 0)[:1]
        from towers.runtime import tf

        self._encode = tf.function(lambda pixels: model.image_encoder(pixels, training=False), reduce_retracing=True)

    def thaw(self, thawed: bool) -> None:
        self.model.image_encoder.thaw(thawed)

    def begin(self, epoch: int) -> None:
        """Thaw the encoder if its epoch has come."""
        self._thaw_for(epoch)
        self._start = [weight.numpy() for weight in self.model.image_encoder.trainable_weights]

    def restore(self, epoch: int) -> None:
        """With the weights of an epoch's end loaded, be as `end` left it."""
        self._thaw_for(epoch)
        if self._thawed:
            self.renew()

    def _thaw_for(self, epoch: int) -> None:
        if epoch >= self.schedule.epoch and not self._thawed:
            self._thawed = True
            self.thaw(True)
            # Keras keeps training what was trainable when its train function was made, and says nothing.
            self.model.make_train_function(force=True)
            trained = sum(int(np.prod(weight.shape)) for weight in self.model.image_encoder.trainable_weights)
            say(f"epoch {epoch}: the image encoder is trained ({trained:,} weights)")

    def add_to(self, batch: dict[str, np.ndarray], rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """The batch with the images that its step encodes, each once; the encoder varies them itself."""
        if not self._thawed:
            return batch
        parts = [batch["positive"], batch["shown"].ravel()]
        if self.schedule.encode == "all":
            parts.append(batch["history"].ravel())
        found = self.pixels.of(np.unique(np.concatenate(parts)))
        # The statistics of no image at all would not be numbers.
        return {**batch, **(found if len(found["pictured"]) else self.pixels.of(self._some))}

    def end(self) -> None:
        """Renew the vectors of all images.

        Raises:
            AssertionError: An epoch has moved none of the weights that it should have.
        """
        if not self._thawed:
            return
        now = [weight.numpy() for weight in self.model.image_encoder.trainable_weights]
        if all(np.array_equal(old, new) for old, new in zip(self._start, now, strict=True)):
            raise AssertionError("the image encoder was trained for an epoch, but no weight has moved")
        self.renew()

    def renew(self) -> None:
        """Encode all images with the encoder as it is."""
        vectors = self.model.items.image.numpy()
        rows = np.flatnonzero(self.pixels.place >= 0)
        for start in range(0, len(rows), _AT_ONCE):
            given = self.pixels.of(rows[start : start + _AT_ONCE])
            vectors[given["pictured"]] = self._encode(given["pixels"]).numpy()
        if not np.isfinite(vectors).all():
            raise AssertionError("the image encoder returned values that are not finite")
        self.model.items.image.assign(vectors)
