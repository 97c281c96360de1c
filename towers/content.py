"""Candidate tower: what is known of an item, to one embedding."""

from __future__ import annotations

from typing import Any

from towers.runtime import keras, tf


class ContentTower(keras.layers.Layer):
    """Text vector, category, language and id of an item, added up in one space.

    The embedding is `projection(text) + category + tags + language + id`, tags by the mean of theirs. The projection
    starts as the identity (or, where the widths differ, as an orthogonal map) and the tables start at zero, so that an
    untrained tower is exactly the frozen text encoder: with no data at all, two items are as close as their texts. An
    item that is new, or whose category is, falls back on what is known of it, because index 0 of every table is the
    unknown and stays zero.
    In training an id is dropped with probability `id_dropout`, which keeps the text responsible for what it can say
    (dropout on ids for cold start: Volkovs et al. 2017, DropoutNet).

    Does not encode text: it takes the text encoder's vector, so that one encoding serves a whole training run.

    Args:
        width: D, the embedding's width.
        use_text: Whether `text` is an input.
        categories, tags, languages, items: Sizes of the vocabularies, the unknown at 0 not counted; 0 leaves one out.
        train_projection: Whether the projection is learned or stays where it starts.
        dropout: Share of the projected text set to zero in training.
        id_dropout: Share of ids replaced by the unknown in training.

    Call arguments: a dict of `text` (..., T) float32, `category`, `language`, `item` (...) and `tags` (..., T)
    int32; leading dimensions are free. Returns: (..., D) float32, not normalised.
    """

    def __init__(
        self,
        width: int,
        *,
        use_text: bool = True,
        categories: int = 0,
        tags: int = 0,
        languages: int = 0,
        items: int = 0,
        train_projection: bool = True,
        dropout: float = 0.0,
        id_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes = {"category": categories, "tags": tags, "language": languages, "item": items}
        self.tables = {name: size for name, size in sizes.items() if size}
        if not use_text and not {"category", "tags", "item"} & set(self.tables):
            raise ValueError("a content tower needs at least one of text, category, tags and id")
        self.width = width
        self.use_text = use_text
        self.train_projection = train_projection
        self.id_dropout = id_dropout
        self.dropout = keras.layers.Dropout(dropout)
        self.id_seed = keras.random.SeedGenerator()

    def build(self, shapes: dict[str, Any]) -> None:
        if self.use_text:
            shape = (shapes["text"][-1], self.width)
            start = keras.initializers.Identity() if shape[0] == shape[1] else keras.initializers.Orthogonal()
            self.start = self.add_weight(name="projection_start", shape=shape, initializer=start, trainable=False)
            # What is learned is the difference, so that weight decay pulls back to the frozen encoder, not to zero.
            self.change = self.add_weight(name="projection_change", shape=shape, initializer="zeros")
            # Afterwards, because Keras saves weights in an order that depends on what they were created as.
            self.change.trainable = self.train_projection
        # Tables alone cannot start at zero: with nothing else in the sum every gradient would vanish.
        table_start = "zeros" if self.use_text else keras.initializers.RandomNormal(stddev=0.05)
        self.embeddings = {
            name: self.add_weight(name=f"{name}_table", shape=(size + 1, self.width), initializer=table_start)
            for name, size in self.tables.items()
        }

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        parts = []
        if self.use_text:
            projected = tf.linalg.matmul(inputs["text"], self.start + self.change)
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
        return tf.add_n(parts)
