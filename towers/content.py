"""Candidate tower: what is known of an item, to one embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from towers.residual import ResidualLayers
from towers.runtime import keras, tf

_VECTORS = ("text", "image")


class ContentTower(keras.layers.Layer):
    """Text and image vector, category, tags, language and id of an item, added up in one space.

    The embedding is `projection(text) + projection(image) + category + tags + language + id`, tags by the mean of
    theirs. The first vector's projection starts as the identity (or, where the widths differ, as an orthogonal map),
    everything else at zero, so that an untrained tower is exactly the frozen encoder: with no data at all, two items
    are as close as their texts, or without texts as their images. An item that is new, or whose category is, falls back
    on what is known of it, because index 0 of every table is the unknown and stays zero, as is the vector of an image
    that there is none of. With `hidden`, layers with batch normalisation are added to the sum, which start at zero too.
    In training an id is dropped with probability `id_dropout`, which keeps the text responsible for what it can say
    (dropout on ids for cold start: Volkovs et al. 2017, DropoutNet).

    Does not encode text or images: it takes the encoders' vectors, so that one encoding serves a whole training run.

    Args:
        width: D, the embedding's width.
        use_text, use_image: Whether `text` and `image` are inputs.
        fields: F, vectors of which `text` is made, end to end; their projections start alike.
        categories, tags, languages, items: Sizes of the vocabularies, the unknown at 0 not counted; 0 leaves one out.
        train_projection: Whether the text's projection is learned or stays where it starts.
        dropout: Share of the projected vectors and of the hidden layers set to zero in training.
        id_dropout: Share of ids replaced by the unknown in training.
        hidden: Widths of the hidden layers.

    Call arguments: a dict of `text` (..., F * T) and `image` (..., V) float32, `category`, `language`, `item` (...) and
    `tags` (..., G) int32; leading dimensions are free. `present` (...) bool: rows that are items and no padding; all by
    default. Returns: (..., D) float32, not normalised.

    Example:
        >>> import numpy as np
        >>> from towers import ContentTower
        >>> tower = ContentTower(8, categories=5)
        >>> text = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
        >>> items = tower({"text": text, "category": np.array([1, 2, 0], np.int32)})
        >>> np.allclose(items, text)  # untrained, it is the frozen text encoder
        True
    """

    def __init__(
        self,
        width: int,
        *,
        use_text: bool = True,
        use_image: bool = False,
        fields: int = 1,
        categories: int = 0,
        tags: int = 0,
        languages: int = 0,
        items: int = 0,
        train_projection: bool = True,
        dropout: float = 0.0,
        id_dropout: float = 0.0,
        hidden: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes = {"category": categories, "tags": tags, "language": languages, "item": items}
        self.tables = {name: size for name, size in sizes.items() if size}
        self.vectors = [name for name, used in zip(_VECTORS, (use_text, use_image), strict=True) if used]
        if not self.vectors and not {"category", "tags", "item"} & set(self.tables):
            raise ValueError("a content tower needs at least one of text, image, category, tags and id")
        self.width = width
        self.fields = fields
        self.train_projection = train_projection
        self.id_dropout = id_dropout
        self.dropout = keras.layers.Dropout(dropout)
        self.id_seed = keras.random.SeedGenerator()
        self.hidden = ResidualLayers(hidden, dropout) if hidden else None

    def build(self, shapes: dict[str, Any]) -> None:
        self.start, self.change = {}, {}
        for name in self.vectors:
            shape = (shapes[name][-1], self.width)
            self.start[name] = self.add_weight(
                name=f"{name}_projection_start", shape=shape, initializer=self._start(name, shape), trainable=False
            )
            # What is learned is the difference, so that weight decay pulls back to the frozen encoder, not to zero.
            self.change[name] = self.add_weight(name=f"{name}_projection_change", shape=shape, initializer="zeros")
            # Afterwards, because Keras saves weights in an order that depends on what they were created as.
            self.change[name].trainable = self.train_projection or name != "text"
        # Tables alone cannot start at zero: with nothing else in the sum every gradient would vanish.
        table_start = "zeros" if self.vectors else keras.initializers.RandomNormal(stddev=0.05)
        self.embeddings = {
            name: self.add_weight(name=f"{name}_table", shape=(size + 1, self.width), initializer=table_start)
            for name, size in self.tables.items()
        }
        if self.hidden is not None:
            self.hidden.build((None, self.width))

    def _start(self, name: str, shape: tuple[int, int]) -> Any:
        if name != self.vectors[0]:
            return "zeros"
        fields = self.fields if name == "text" else 1
        one = (shape[0] // fields, self.width)
        start = keras.initializers.Identity() if one[0] == one[1] else keras.initializers.Orthogonal()
        return keras.initializers.Constant(np.tile(keras.ops.convert_to_numpy(start(one)), (fields, 1)))

    def call(self, inputs: dict[str, tf.Tensor], present: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
        parts = []
        for name in self.vectors:
            projected = tf.linalg.matmul(inputs[name], self.start[name] + self.change[name])
            parts.append(self.dropout(projected, training=training))
        for name, table in self.embeddings.items():
            index = inputs[name]
            if name == "item" and training and self.id_dropout:
                kept = keras.random.uniform(tf.shape(index), seed=self.id_seed) >= self.id_dropout
                index = tf.where(kept, index, 0)
            known = tf.cast(index > 0, tf.float32)[..., None]
            values = tf.gather(table, index) * known
            if name == "tags":
                values = tf.math.divide_no_nan(tf.reduce_sum(values, axis=-2), tf.reduce_sum(known, axis=-2))
            parts.append(values)
        embedding = tf.add_n(parts)
        return embedding if self.hidden is None else self.hidden(embedding, present, training=training)
