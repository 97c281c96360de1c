"""Fine-tuning of a text encoder's upper layers, in a schedule, each weight at a rate of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from towers.runtime import keras, tf
from towers.text import TextEncoder

# Groups of similar length in which a batch's texts are encoded; more groups mean less padding and smaller products.
_GROUPS = 4
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7


class TextTop(keras.layers.Layer):
    """The layers of a text encoder from `cut` on, over the stored output of those below.

    Only these layers are weights of this layer; the encoder that they belong to sees them change.

    Args:
        encoder: The text encoder; its layers below `cut` never change.
        cut: The lowest layer that is here.
        lora_rank: Train a low-rank difference of the queries and values instead of the layers (Hu et al. 2022);
            None trains the layers.

    Call arguments: `values` (T, D) float32, the hidden states of U texts end to end, and `lengths` (U,) int, their
    tokens, shortest first. Returns: (U, D) vectors of unit length; zero for a text of no tokens.

    Raises:
        ValueError: The encoder has no layer `cut`, or its layers cannot be run one by one.

    Example:
        >>> from towers import TextEncoder, TextTop
        >>> top = TextTop(TextEncoder(preset, max_tokens=12), cut=0)  # `preset` has one layer
        >>> top.thaw(None)
        >>> len(top.trainable_weights)
        0
        >>> top.thaw(0)
        >>> len(top.trainable_weights) > 0
        True
    """

    def __init__(self, encoder: TextEncoder, cut: int, *, lora_rank: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        count = encoder.layers_count
        if not count:
            raise ValueError("the layers of this backbone cannot be run one by one, so they cannot be thawed")
        if not 0 <= cut < count:
            raise ValueError(f"the backbone has layers 0 to {count - 1}, not {cut}")
        self.cut, self.lora_rank = cut, lora_rank
        self.blocks = list(encoder.backbone.transformer_layers[cut:])
        self.attention = encoder.attention
        if lora_rank is not None:
            for block in self.blocks:
                for layer in block._flatten_layers():
                    if layer.name in ("query", "value") and isinstance(layer, keras.layers.EinsumDense):
                        layer.enable_lora(lora_rank)
        # Out of Keras' sight: the frozen part is neither trained nor saved with the model.
        self.encoder = _Untracked(encoder)
        self.built = True

    def thaw(self, first: int | None) -> None:
        """Train layers `first` and above, and freeze the rest; None freezes all. Attention over tokens is on top."""
        if self.attention is not None:
            self.attention.trainable = first is not None
        for number, block in enumerate(self.blocks, start=self.cut):
            thawed = first is not None and number >= first
            block.trainable = thawed
            if thawed and self.lora_rank is not None:
                for weight in block.weights:
                    weight.trainable = "lora" in weight.path

    def call(self, values: tf.Tensor, lengths: tf.Tensor, training: bool = False) -> tf.Tensor:
        texts = tf.shape(lengths)[0]
        states = tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)
        vectors = []
        for group in range(_GROUPS):
            start, end = texts * group // _GROUPS, texts * (group + 1) // _GROUPS
            found = states[start:end].to_tensor()
            # A text may have no tokens, and a group nothing else: no layer should meet an empty row.
            found = tf.pad(found, [[0, 0], [0, tf.cast(tf.equal(tf.shape(found)[1], 0), tf.int32)], [0, 0]])
            mask_UxL = tf.sequence_mask(lengths[start:end], tf.shape(found)[1])
            safe_UxL = mask_UxL | tf.equal(tf.range(tf.shape(found)[1]), 0)[None]
            vector_UxD = self.encoder.value.upper(found, safe_UxL, self.cut, training)
            vectors.append(vector_UxD * tf.cast(lengths[start:end] > 0, tf.float32)[:, None])
        return tf.concat(vectors, axis=0)


class _Untracked:
    """Holds a layer where Keras does not look for it."""

    def __init__(self, value: Any) -> None:
        self.value = value


class LayerwiseAdamW(keras.optimizers.Optimizer):
    """AdamW (Loshchilov and Hutter 2019) where every weight has a learning rate and a first step of its own.

    Fine-tuning wants small rates for what was pretrained, smaller ones for its lower layers (Howard and Ruder 2018)
    and larger ones for what is new. Adam's bias correction and the warm-up count a weight's own steps: by the common
    count, a layer that thaws late would begin at several times its rate.

    Args:
        learning_rate: The rate of a weight whose factor is 1.
        factor: From a weight's path to the factor of its learning rate.
        warmup_steps: Steps over which a weight's rate rises linearly from its first step on.
        weight_decay: Share of a weight that goes per step, times its learning rate.
        without_decay: Parts of the paths of weights that do not decay.

    Example:
        >>> from towers import LayerwiseAdamW
        >>> from towers.runtime import keras
        >>> frozen, trained = keras.Variable([1.0], name="frozen"), keras.Variable([1.0], name="trained")
        >>> optimizer = LayerwiseAdamW(0.1, factor=lambda path: 0.0 if "frozen" in path else 1.0)
        >>> optimizer.build([frozen, trained])
        >>> optimizer.apply([[1.0], [1.0]])
        >>> [round(float(each[0]), 2) for each in (frozen, trained)]
        [1.0, 0.9]
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        factor: Callable[[str], float] = lambda path: 1.0,
        warmup_steps: int = 0,
        weight_decay: float = 0.0,
        without_decay: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self._factor, self._warmup_steps = factor, warmup_steps
        self._decay, self._without_decay = weight_decay, tuple(without_decay)
        self._rates: list[tuple[float, float]] = []

    def build(self, variables: list[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self._rates = [(self._factor(variable.path), self._decay_of(variable.path)) for variable in variables]
        self.means = [self.add_variable_from_reference(variable, name="mean") for variable in variables]
        self.squares = [self.add_variable_from_reference(variable, name="square") for variable in variables]
        self.steps = [self.add_variable(shape=(), initializer="zeros", name="steps") for _ in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # Keras' own optimizers find a variable's slot this way; there is no public one.
        index = self._get_variable_index(variable)
        factor, decay = self._rates[index]
        mean, square, steps = self.means[index].value, self.squares[index].value, self.steps[index].value
        gradient = tf.convert_to_tensor(gradient)
        step = steps.assign_add(1.0)
        rate = tf.cast(learning_rate, tf.float32) * factor * tf.minimum(step / max(1, self._warmup_steps), 1.0)
        mean.assign_add((gradient - mean) * (1 - _BETA_1))
        square.assign_add((tf.square(gradient) - square) * (1 - _BETA_2))
        change = (mean / (1 - tf.pow(_BETA_1, step))) / (tf.sqrt(square / (1 - tf.pow(_BETA_2, step))) + _EPSILON)
        variable.assign_sub(rate * (change + decay * variable))

    def _decay_of(self, path: str) -> float:
        return 0.0 if any(part in path for part in self._without_decay) else self._decay


def layer_factors(top: TextTop, rate: float, decay: float) -> dict[str, float]:
    """Learning-rate factor by the path of a weight of `top`: `rate` for the top layer, times `decay` for each below.

    Example:
        >>> from towers import TextEncoder, TextTop, layer_factors
        >>> factors = layer_factors(TextTop(TextEncoder(preset, max_tokens=12), cut=0), rate=0.02, decay=0.9)
        >>> sorted(set(factors.values()))  # of one layer, which is the top
        [0.02]
    """
    return {
        weight.path: rate * decay ** (len(top.blocks) - 1 - place)
        for place, block in enumerate(top.blocks)
        for weight in block.weights
    }


def check_split(encoder: TextEncoder, cut: int) -> None:
    """Make sure that `lower` and `upper` together are the encoder.

    Raises:
        ValueError: They are not: this backbone does more between its layers than run them.
    """
    text = tf.constant(["Storm closes the harbour", "Late goal wins the cup"])
    tokens = encoder.tokenize(text)
    found = encoder.upper(encoder.lower(cut)(tokens, training=False), tokens["padding_mask"], cut)
    if not np.allclose(found.numpy(), encoder(tokens).numpy(), atol=1e-4):
        raise ValueError("the layers of this backbone cannot be run one by one, so they cannot be thawed")
