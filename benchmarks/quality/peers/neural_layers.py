"""The layers of NRMS and LSTUR, as their papers give them, in Keras 3."""

from __future__ import annotations

from typing import Any

from towers.runtime import keras

_FAR = -1e9


class AdditiveAttention(keras.layers.Layer):
    """(B, T, D) and a mask (B, T) to (B, D): the mean weighted by a learned query; zeros where all is masked."""

    def __init__(self, units: int = 200) -> None:
        super().__init__()
        self.project = keras.layers.Dense(units, activation="tanh")
        self.query = keras.layers.Dense(1, use_bias=False)

    def call(self, values: Any, mask: Any) -> Any:
        mask = keras.ops.cast(mask, values.dtype)
        weight = keras.ops.softmax(self.query(self.project(values))[..., 0] + (1 - mask) * _FAR, axis=-1) * mask
        return keras.ops.einsum("bt,btd->bd", weight, values)


class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention, then additive attention: NRMS's encoder of words and of what was read."""

    def __init__(self, heads: int = 16, width: int = 16, dropout: float = 0.2) -> None:
        super().__init__()
        self.attention = keras.layers.MultiHeadAttention(heads, width, output_shape=heads * width)
        self.dropout = keras.layers.Dropout(dropout)
        self.pool = AdditiveAttention()

    def call(self, values: Any, mask: Any, training: bool | None = None) -> Any:
        seen = self.attention(values, values, attention_mask=mask[:, None, :], training=training)
        return self.pool(self.dropout(seen, training=training), mask)


class Titles(keras.layers.Layer):
    """(B, L) word ids, 0 for none, to (B, L, E) learned embeddings and their mask."""

    def __init__(self, words: int, width: int = 100, dropout: float = 0.2) -> None:
        super().__init__()
        self.embedding = keras.layers.Embedding(words, width)
        self.dropout = keras.layers.Dropout(dropout)

    def call(self, ids: Any, training: bool | None = None) -> tuple[Any, Any]:
        return self.dropout(self.embedding(ids), training=training), ids > 0


class NewsModel(keras.Model):
    """Logits of C candidates for a user with H read items. Items are rows of the tables `items` holds, 0 for none.

    Subclasses encode an item from its row, and a user from the vectors of what they read.
    """

    def encode_items(self, rows: Any, training: bool | None = None) -> Any:
        """(B,) rows to (B, D)."""
        raise NotImplementedError

    def encode_users(self, vectors: Any, mask: Any, user: Any, training: bool | None = None) -> Any:
        """(B, H, D), (B, H) and (B,) user rows, 0 for unknown, to (B, D)."""
        raise NotImplementedError

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        history, candidates = inputs["history"], inputs["candidates"]
        read, shown = history.shape[1], candidates.shape[1]
        rows = keras.ops.reshape(keras.ops.concatenate([history, candidates], axis=1), (-1,))
        vectors = self.encode_items(rows, training=training)
        vectors = keras.ops.reshape(vectors, (-1, read + shown, vectors.shape[-1]))
        user = self.encode_users(vectors[:, :read], history > 0, inputs["user"], training=training)
        return keras.ops.einsum("bd,bcd->bc", user, vectors[:, read:])


class Nrms(NewsModel):
    """Neural news recommendation with multi-head self-attention (Wu et al. 2019): titles alone.

    Args:
        items: The tables "title" (N + 1, L).
        words: Size of the vocabulary, 0 included.
    """

    def __init__(self, items: dict[str, Any], words: int) -> None:
        super().__init__()
        self.titles = keras.ops.convert_to_tensor(items["title"])
        self.words = Titles(words)
        self.news, self.reader = SelfAttention(), SelfAttention()

    def encode_items(self, rows: Any, training: bool | None = None) -> Any:
        values, mask = self.words(keras.ops.take(self.titles, rows, axis=0), training=training)
        return self.news(values, mask, training=training)

    def encode_users(self, vectors: Any, mask: Any, user: Any, training: bool | None = None) -> Any:
        return self.reader(vectors, mask, training=training)


class Lstur(NewsModel):
    """Long- and short-term user representations (An et al. 2019), variant "ini": the user starts the GRU.

    A title goes through a convolution and additive attention; category and subcategory have embeddings of their own.
    Long-term vectors are left out for half of the examples in training, and for users who were not trained on.

    Args:
        items: The tables "title" (N + 1, L), "category" and "tag" (N + 1,).
        words, categories, tags, users: Sizes of the vocabularies, 0 included.
    """

    def __init__(self, items: dict[str, Any], words: int, categories: int, tags: int, users: int) -> None:
        super().__init__()
        self.tables = {name: keras.ops.convert_to_tensor(table) for name, table in items.items()}
        self.words = Titles(words)
        self.convolve = keras.layers.Conv1D(200, 3, padding="same", activation="relu")
        self.dropout = keras.layers.Dropout(0.2)
        self.pool = AdditiveAttention()
        self.category = keras.layers.Embedding(categories, 50)
        self.tag = keras.layers.Embedding(tags, 50)
        self.user = keras.layers.Embedding(users, 300, embeddings_initializer="zeros")
        self.keep = keras.layers.Dropout(0.5, noise_shape=(None, 1))
        self.recurrent = keras.layers.GRU(300)

    def encode_items(self, rows: Any, training: bool | None = None) -> Any:
        values, mask = self.words(keras.ops.take(self.tables["title"], rows, axis=0), training=training)
        title = self.pool(self.dropout(self.convolve(values), training=training), mask)
        topic = [
            embedding(keras.ops.take(self.tables[name], rows, axis=0))
            for name, embedding in (("category", self.category), ("tag", self.tag))
        ]
        return keras.ops.concatenate([title, *topic], axis=-1)

    def encode_users(self, vectors: Any, mask: Any, user: Any, training: bool | None = None) -> Any:
        known = keras.ops.cast(user > 0, vectors.dtype)[:, None]
        long_term = self.keep(self.user(user), training=training) * known
        return self.recurrent(vectors, mask=mask, initial_state=long_term, training=training)
