"""What the towers are told about items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from towers.runtime import tf


@dataclass(frozen=True)
class ItemTable:
    """Inputs of the content tower for a catalogue, row by row; row 0 is padding and unknown.

    Args:
        text: (N + 1, T) float32, the text encoder's vectors, which fine-tuning renews; T may be 0 where it is not used.
        image: (N + 1, V) float32, likewise of the images.
        category, language, item: (N + 1,) int32, places in the vocabularies, 0 for unknown.
        tags: (N + 1, T) int32, likewise; 0 for none.

    Example:
        >>> import numpy as np
        >>> from towers import ItemTable
        >>> text = np.r_[np.zeros((1, 8)), np.eye(3, 8)]  # N 3, after the row of the padding
        >>> none = np.zeros(4, int)
        >>> items = ItemTable.from_arrays(text, category=none, tags=none[:, None], language=none, item=np.arange(4))
        >>> items.rows, items.gather([[1, 0], [3, 2]])["item"].numpy().tolist()
        (4, [[1, 0], [3, 2]])
    """

    text: tf.Variable
    image: tf.Variable
    category: tf.Tensor
    tags: tf.Tensor
    language: tf.Tensor
    item: tf.Tensor

    @classmethod
    def from_arrays(
        cls,
        text: np.ndarray,
        category: np.ndarray,
        tags: np.ndarray,
        language: np.ndarray,
        item: np.ndarray,
        image: np.ndarray | None = None,
    ) -> ItemTable:
        """Put NumPy arrays of N + 1 rows into tensors.

        Raises:
            ValueError: The arrays differ in length, or row 0 is not empty.
        """
        if image is None:
            image = np.zeros((len(text), 0), np.float32)
        if not len(text) == len(image) == len(category) == len(tags) == len(language) == len(item):
            raise ValueError("the columns of an item table must have the same number of rows")
        if text[0].any() or image[0].any() or category[0] or tags[0].any() or language[0] or item[0]:
            raise ValueError("row 0 of an item table is padding and must be zero")
        return cls(
            tf.Variable(text, trainable=False, dtype=tf.float32),
            tf.Variable(image, trainable=False, dtype=tf.float32),
            tf.constant(category, tf.int32),
            tf.constant(tags, tf.int32),
            tf.constant(language, tf.int32),
            tf.constant(item, tf.int32),
        )

    @property
    def rows(self) -> int:
        return int(self.text.shape[0])

    def gather(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """The rows at `index` (...), as the content tower takes them."""
        return {
            "text": tf.gather(self.text, index),
            "image": tf.gather(self.image, index),
            "category": tf.gather(self.category, index),
            "tags": tf.gather(self.tags, index),
            "language": tf.gather(self.language, index),
            "item": tf.gather(self.item, index),
        }
