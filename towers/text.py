"""Text encoder: raw strings to one vector each, tokenisation inside the graph."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from towers.runtime import keras, keras_hub, tf

Pooling: TypeAlias = Literal["mean", "cls", "attention"]
Fields: TypeAlias = Literal["joined", "title", "separate"]


class TextEncoder(keras.layers.Layer):
    """A keras-hub backbone whose last hidden states are pooled to one vector a text.

    The vector is the mean of the hidden states over the tokens that are not padding, or the first token's, or their sum
    weighted by additive attention with one learned query (Yang et al. 2016), scaled to unit length (Sentence-BERT,
    Reimers and Gurevych 2019). The query starts at zero: before it is trained, attention is the mean.

    The transformer's layers can be run in two parts, `lower` and `upper`, so that what is below a frozen layer need be
    computed only once for each text.

    Does not know of title and body: `encode_fields` does. Does not download anything where the
    preset is a folder.

    Args:
        preset: A folder or name that keras-hub's `from_preset` takes.
        max_tokens: L, tokens kept of a text, the two special ones included.
        pooling: "mean"; "cls" for the first token, which suits presets that were trained that way; "attention", which
            has to be trained.

    Call arguments: a dict of `token_ids` and `padding_mask` (B, L) as `tokenize` returns it. Returns: (B, D) float32.

    Example:
        >>> from towers import TextEncoder
        >>> from towers.runtime import tf
        >>> encoder = TextEncoder(preset, max_tokens=12)  # a folder that keras-hub's `save_to_preset` wrote
        >>> vectors = encoder.encode(tf.constant(["Storm closes the harbour", ""]))
        >>> tuple(vectors.shape), tf.norm(vectors, axis=1).numpy().round(3).tolist()
        ((2, 16), [1.0, 0.0])
    """

    def __init__(self, preset: str, max_tokens: int, *, pooling: Pooling = "mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.preset = preset
        self.pooling = pooling
        self.max_tokens = max_tokens
        preprocessor = keras_hub.models.TextClassifierPreprocessor.from_preset(preset, sequence_length=max_tokens)
        tokenizer = preprocessor.tokenizer
        if getattr(tokenizer, "lowercase", False) and not getattr(tokenizer, "strip_accents", True):
            # keras-hub's converter lower-cases without stripping accents, so that "café" would become [UNK];
            # the uncased models were trained on text without accents.
            tokenizer = type(tokenizer).from_preset(preset, strip_accents=True)
            preprocessor = type(preprocessor)(tokenizer=tokenizer, sequence_length=max_tokens)
        self.preprocessor = preprocessor
        self.backbone = keras_hub.models.Backbone.from_preset(preset)
        self.width: int = hidden_states(self.backbone.output).shape[-1]
        self.attention = TokenAttention(self.width) if pooling == "attention" else None

    def tokenize(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """(B,) strings to token ids and masks (B, L); runs in a graph."""
        return self.preprocessor(text)

    def call(self, tokens: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return self.pool(hidden_states(self.backbone(tokens, training=training)), tokens["padding_mask"])

    def pool(self, states_BxLxD: tf.Tensor, mask_BxL: tf.Tensor) -> tf.Tensor:
        """Hidden states of a text's tokens to its vector (B, D), of unit length."""
        if self.pooling == "cls":
            return tf.math.l2_normalize(states_BxLxD[:, 0], axis=-1)
        if self.attention is not None:
            return tf.math.l2_normalize(self.attention(states_BxLxD, mask_BxL), axis=-1)
        mask_BxLx1 = tf.cast(mask_BxL, states_BxLxD.dtype)[:, :, None]
        mean_BxD = tf.reduce_sum(states_BxLxD * mask_BxLx1, axis=1) / tf.reduce_sum(mask_BxLx1, axis=1)
        return tf.math.l2_normalize(mean_BxD, axis=-1)

    @property
    def resources(self) -> list[Any]:
        """The tokenizer's tables and models, which a SavedModel must hold beside the weights; a WordPiece has none."""
        kinds = (tf.Module, tf.saved_model.experimental.TrackableResource)
        return [value for value in vars(self.preprocessor.tokenizer).values() if isinstance(value, kinds)]

    @property
    def layers_count(self) -> int:
        """Transformer layers that can be run one by one; 0 where the backbone is not built that way."""
        layers = getattr(self.backbone, "transformer_layers", [])
        return len(layers) if all(isinstance(layer, keras_hub.layers.TransformerEncoder) for layer in layers) else 0

    def lower(self, cut: int) -> keras.Model:
        """The backbone up to and without layer `cut`, as a model from tokens to hidden states (B, L, D)."""
        layers = self.backbone.transformer_layers
        inside = layers[cut - 1].output if cut else layers[0].input
        return keras.Model(self.backbone.input, inside[0] if isinstance(inside, list | tuple) else inside)

    def upper(self, states_BxLxD: tf.Tensor, mask_BxL: tf.Tensor, cut: int, training: bool = False) -> tf.Tensor:
        """Hidden states below layer `cut` to vectors (B, D)."""
        mask_BxL = tf.cast(mask_BxL, tf.int32)
        for layer in self.backbone.transformer_layers[cut:]:
            states_BxLxD = layer(states_BxLxD, padding_mask=mask_BxL, training=training)
        return self.pool(states_BxLxD, mask_BxL)

    def encode(self, text: tf.Tensor) -> tf.Tensor:
        """(B,) strings to (B, D) vectors of unit length. An empty text gets the zero vector: nothing is known of it."""
        known_Bx1 = tf.cast(tf.strings.length(text) > 0, tf.float32)[:, None]
        tokens = self.tokenize(text)
        # Work on no more padding than the longest text of the batch needs.
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(tokens["padding_mask"], tf.int32), axis=1))
        return self({name: value[:, :longest] for name, value in tokens.items()}) * known_Bx1


class TokenAttention(keras.layers.Layer):
    """Sum of tokens (B, L, D) weighted by the softmax of `query . tanh(W token + b)`; starts as the mean.

    The weights are a learned query's (Yang et al. 2016). Padding has none.

    Args:
        width: D, of the tokens.

    Call arguments: states (B, L, D) float32 and mask (B, L), 1 for a token and 0 for padding. Returns: (B, D).

    Example:
        >>> import numpy as np
        >>> from towers import TokenAttention
        >>> states = np.array([[[2.0, 0.0], [4.0, 2.0], [9.0, 9.0]]], np.float32)  # B 1, L 3, D 2
        >>> TokenAttention(2)(states, np.array([[1, 1, 0]])).numpy().round(3).tolist()
        [[3.0, 1.0]]
    """

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.keys = keras.layers.Dense(width, activation="tanh")
        self.keys.build((None, None, width))
        self.query = self.add_weight(name="query", shape=(width,), initializer="zeros")
        self.built = True

    def call(self, states_BxLxD: tf.Tensor, mask_BxL: tf.Tensor) -> tf.Tensor:
        score_BxL = tf.linalg.matvec(self.keys(states_BxLxD), self.query)
        score_BxL = tf.where(tf.cast(mask_BxL, tf.bool), score_BxL, score_BxL.dtype.min)
        return tf.linalg.matvec(states_BxLxD, tf.nn.softmax(score_BxL), transpose_a=True)


def encode_fields(encoder: TextEncoder, fields: Fields, title: tf.Tensor, body: tf.Tensor) -> tf.Tensor:
    """Title and body (B,) strings to the text vector (B, F * D) of an item: of both as one text, of the title alone, or
    of each, end to end."""
    vectors = [encoder.encode(text) for text in texts_of(fields, title, body)]
    return vectors[0] if len(vectors) == 1 else join_vectors(*vectors)


def texts_of(fields: Fields, title: tf.Tensor, body: tf.Tensor) -> list[tf.Tensor]:
    """The texts (B,) that are encoded of title and body: one, or with "separate" two."""
    # AutoGraph, which reads this where it is traced, does not know `match`.
    if fields == "joined":
        return [join_fields(title, body)]
    if fields == "title":
        return [tf.strings.strip(title)]
    if fields == "separate":
        return [tf.strings.strip(title), tf.strings.strip(body)]
    raise ValueError(f"{fields!r} is no way to read title and body")


def join_fields(title: tf.Tensor, body: tf.Tensor) -> tf.Tensor:
    """Title and body (B,) as the one text that the encoder reads."""
    return tf.strings.strip(tf.strings.join([title, body], separator=" "))


def join_vectors(title_BxD: tf.Tensor, body_BxD: tf.Tensor) -> tf.Tensor:
    """The vectors of title and body end to end (B, 2 D), so scaled that their sum has unit length."""
    length_Bx1 = tf.norm(title_BxD + body_BxD, axis=1, keepdims=True)
    return tf.math.divide_no_nan(tf.concat([title_BxD, body_BxD], axis=1), length_Bx1)


def hidden_states(output: Any) -> Any:
    """The hidden states (B, L, D) in what a backbone returns, which is a dict where it also has a pooler."""
    return output["sequence_output"] if isinstance(output, dict) else output
