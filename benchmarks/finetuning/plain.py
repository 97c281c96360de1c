"""Fine-tuning as one would write it first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.finetuning.parts import Share, milliseconds

_BATCHES = 4


class Plain:
    """The whole backbone on every candidate of the batch, padded to 32 tokens, at one learning rate.

    Histories come from stored vectors, which are never renewed. Candidates have the text that the recipe has (the
    title, and what it adds); padding makes the cost that of a title.
    """

    def __init__(self, recipe: Any, data: Any, model: Any, examples: Any, folder: Path) -> None:
        from towers.runtime import keras, tf

        self.model, self.examples = model, examples
        self.encoder = model.text_top.encoder.value
        self.encoder.backbone.trainable = True
        self.texts = tf.constant(["", *data.catalogue.text])
        self.optimizer = keras.optimizers.AdamW(2e-5)
        self.weights = self.encoder.backbone.trainable_variables
        self.update = tf.function(self._update, reduce_retracing=True)

    def train(self, epoch: int) -> None:
        from towers.runtime import tf

        for number in range(len(self.examples)):
            batch = self.examples.batch(epoch, number)
            self.update({name: tf.constant(value) for name, value in batch.items()})

    def _update(self, batch: Any) -> Any:
        loss, gradients = self._gradients(self._tokens(batch), batch)
        self._apply(gradients)
        return loss

    def _tokens(self, batch: Any) -> Any:
        from towers.runtime import tf

        candidates = tf.concat([batch["positive"][:, None], batch["shown"]], axis=1)
        return self.encoder.tokenize(tf.gather(self.texts, tf.reshape(candidates, [-1])))

    def _loss(self, tokens: Any, batch: Any) -> Any:
        from towers.runtime import tf

        user, *_ = self.model(batch, training=True)  # what the losses would share is not used
        candidates = tf.concat([batch["positive"][:, None], batch["shown"]], axis=1)
        vectors = self.encoder(tokens, training=True)
        vectors = tf.reshape(vectors, [*tf.unstack(tf.shape(candidates)), self.encoder.width])
        scores = tf.where(candidates > 0, tf.linalg.matvec(vectors, user), -1e9)
        return tf.reduce_mean(-tf.nn.log_softmax(scores)[:, 0])

    def _gradients(self, tokens: Any, batch: Any) -> Any:
        from towers.runtime import tf

        with tf.GradientTape() as tape:
            loss = self._loss(tokens, batch)
        return loss, tape.gradient(loss, [weight.value for weight in self.weights])

    def _apply(self, gradients: Any) -> None:
        found = [(g, weight) for g, weight in zip(gradients, self.weights, strict=True) if g is not None]
        self.optimizer.apply_gradients(found)

    def parts(self) -> list[Share]:
        """Changes the weights: after what is judged."""
        from towers.runtime import tf

        numbers = list(range(min(_BATCHES, len(self.examples))))
        given = [self.examples.batch(1, number) for number in numbers]
        tensors = [{name: tf.constant(value) for name, value in batch.items()} for batch in given]
        tokenize = tf.function(self._tokens, reduce_retracing=True)
        tokens = [tokenize(batch) for batch in tensors]
        pairs = list(zip(tokens, tensors, strict=True))
        users = tf.function(lambda batch: self.model(batch, training=True)[0], reduce_retracing=True)
        loss = tf.function(self._loss, reduce_retracing=True)
        gradients = tf.function(self._gradients, reduce_retracing=True)
        apply = tf.function(self._apply)
        example = gradients(*pairs[0])[1]
        user = milliseconds(users, tensors)
        forward = milliseconds(lambda pair: loss(*pair), pairs)
        both = milliseconds(lambda pair: gradients(*pair), pairs)
        return [
            Share("make the batch", milliseconds(lambda number: self.examples.batch(1, number), numbers)),
            Share("tokenise", milliseconds(tokenize, tensors)),
            Share("history and user tower, forward", user),
            Share("whole backbone, forward", forward - user),
            Share("whole backbone, backward", both - forward),
            Share("optimizer", milliseconds(lambda _: apply(example), numbers)),
        ]
