"""Masked words: what a text encoder learns from text alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from towers.runtime import keras, keras_hub, tf
from towers.text import TextEncoder, hidden_states

_CHOSEN, _MASKED, _RANDOM = 0.15, 0.8, 0.1


class MaskedLanguageModel(keras.Model):
    """A text encoder with a head that guesses words from their context (BERT, Devlin et al. 2019).

    15 % of the tokens are chosen; of these 80 % become the mask, 10 % another token, and 10 % stay. Of a WordPiece
    vocabulary whole words are chosen, so that no piece gives its word away. Special and unknown tokens never are. The
    head's output is tied to the token embedding; the head itself starts untrained, since presets do not hold one.

    Does not choose whole words in other vocabularies: theirs run across a whole sentence where no spaces are written.

    Args:
        encoder: A text encoder over a BERT, RoBERTa, DistilBERT or XLM-R backbone. It sees its weights change.

    Call arguments: `tokens`, a dict of arrays (B, L) as `encoder.tokenize` returns it, with `token_ids` masked, and
    `chosen` (B, L) bool. Returns: (M, V) logits over the vocabulary, a row for each of the M chosen tokens.

    Raises:
        ValueError: The backbone is of another kind, or its tokenizer has no mask.

    Example:
        >>> from towers import MaskedLanguageModel, TextEncoder
        >>> from towers.runtime import tf
        >>> encoder = TextEncoder(preset, max_tokens=12)
        >>> model = MaskedLanguageModel(encoder)
        >>> tokens = encoder.tokenize(tf.constant(["storm closes the harbour"]))
        >>> masked, chosen = model.mask(tokens["token_ids"], seed=tf.constant([1, 2]))
        >>> logits = model(tokens | {"token_ids": masked}, chosen)
        >>> logits.shape[0] == int(tf.reduce_sum(tf.cast(chosen, tf.int32)))
        True
    """

    def __init__(self, encoder: TextEncoder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        tokenizer, backbone = encoder.preprocessor.tokenizer, encoder.backbone
        models = keras_hub.models
        kinds = (models.BertBackbone, models.RobertaBackbone, models.DistilBertBackbone, models.XLMRobertaBackbone)
        if not isinstance(backbone, kinds) or getattr(tokenizer, "mask_token_id", None) is None:
            raise ValueError(
                f"masked words need a BERT, RoBERTa, DistilBERT or XLM-R backbone whose vocabulary has a mask, not "
                f"{type(backbone).__name__} with {type(tokenizer).__name__}"
            )
        self.backbone = backbone
        self.head = keras_hub.layers.MaskedLMHead(
            token_embedding=backbone.token_embedding,
            intermediate_activation="gelu",
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02, seed=0),
            name="head",
        )
        self.head.build((None, None, encoder.width))
        self.built = True
        self.mask_id: int = tokenizer.mask_token_id
        special = special_ids(tokenizer)
        # The embedding may have rows beyond the tokenizer's words.
        size = min(tokenizer.vocabulary_size(), backbone.token_embedding.input_dim)
        self._words = tf.constant(np.setdiff1d(np.arange(size), special), tf.int32)
        self._is_word = tf.constant(~np.isin(np.arange(backbone.token_embedding.input_dim), special))
        suffix = getattr(tokenizer, "suffix_indicator", None)
        continues = np.zeros(backbone.token_embedding.input_dim, np.int32)
        if suffix:
            continues[:size] = [piece.startswith(suffix) for piece in tokenizer.get_vocabulary()[:size]]
        self._continues = tf.constant(continues)

    @property
    def encoder_weights(self) -> list[Any]:
        """What of the encoder these guesses train: its pooler, which they do not use, is left out."""
        pooler = getattr(self.backbone, "pooled_dense", None)
        left = {id(weight) for weight in (pooler.weights if pooler is not None else [])}
        return [weight for weight in self.backbone.trainable_weights if id(weight) not in left]

    @property
    def head_weights(self) -> list[Any]:
        """The head's own weights, without the token embedding that it shares."""
        shared = {id(weight) for weight in self.backbone.weights}
        return [weight for weight in self.head.trainable_weights if id(weight) not in shared]

    def mask(self, token_ids: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Masked token ids (B, L) and which were chosen (B, L), by `seed` (2,) alone."""
        seeds = tf.random.split(seed, 4)
        shape = tf.shape(token_ids)
        draw_BxL = tf.random.stateless_uniform(shape, seeds[0])
        # All pieces of a word share a draw; the first token is never a continuation.
        word_BxL = tf.cumsum(1 - tf.gather(self._continues, token_ids), axis=1) - 1
        draw_BxL = tf.gather(draw_BxL, tf.maximum(word_BxL, 0), batch_dims=1)
        chosen_BxL = (draw_BxL < _CHOSEN) & tf.gather(self._is_word, token_ids)
        other_BxL = tf.random.stateless_uniform(shape, seeds[1], 0, tf.size(self._words), tf.int32)
        way_BxL = tf.random.stateless_uniform(shape, seeds[2])
        other_BxL = tf.where(way_BxL < _MASKED + _RANDOM, tf.gather(self._words, other_BxL), token_ids)
        put_BxL = tf.where(way_BxL < _MASKED, self.mask_id, other_BxL)
        return tf.where(chosen_BxL, put_BxL, token_ids), chosen_BxL

    def call(self, tokens: dict[str, tf.Tensor], chosen: tf.Tensor, training: bool = False) -> tf.Tensor:
        states_BxLxD = hidden_states(self.backbone(tokens, training=training))
        states_MxD = tf.boolean_mask(states_BxLxD, chosen)
        return self.head(states_MxD[None], tf.range(tf.shape(states_MxD)[0])[None])[0]

    def losses_of(self, tokens: dict[str, tf.Tensor], seed: tf.Tensor, training: bool = False) -> tf.Tensor:
        """(M,) cross-entropy, in nats, of each token that `seed` chooses in a batch."""
        tokens = {**tokens, "token_ids": tf.cast(tokens["token_ids"], tf.int32)}
        masked_BxL, chosen_BxL = self.mask(tokens["token_ids"], seed)
        logits_MxV = self({**tokens, "token_ids": masked_BxL}, chosen=chosen_BxL, training=training)
        labels_M = tf.boolean_mask(tokens["token_ids"], chosen_BxL)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels_M, logits_MxV)


def special_ids(tokenizer: Any) -> list[int]:
    """The ids that stand for no word: padding, begin, end, mask and unknown."""
    found = set(tokenizer.special_token_ids)
    # Not every tokenizer counts its mask and its unknown token among them.
    for name in ("pad", "start", "end", "mask", "unk"):
        found.add(getattr(tokenizer, f"{name}_token_id", None))
    unknown = getattr(tokenizer, "oov_token", None)
    if unknown is not None:
        found.add(tokenizer.token_to_id(unknown))
    return sorted(int(each) for each in found if each is not None)
