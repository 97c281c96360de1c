"""Fine-tuning as `belfry train` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.finetuning.parts import Share, milliseconds

_BATCHES = 8


class Ours:
    """The recipe as it is, its schedule included; the states of the frozen layers are made here, once.

    Args:
        data: What is trained on, prepared; only its texts are read here.
        model: A built `TwoTower` with a `text_top`.
    """

    def __init__(self, recipe: Any, data: Any, model: Any, examples: Any, folder: Path) -> None:
        from pipelines.fine_tune import FineTuner
        from pipelines.optimizer import ever_trained, optimizer_for

        log, rows = examples.behaviour.interactions, examples.rows
        read = examples.window.items(log.user[rows], log.history_end[rows])
        self.model, self.examples = model, examples
        self.tuner = FineTuner(model, recipe.fine_tuning, data.catalogue.text, folder, read)
        self.optimizer = optimizer_for(recipe, model)
        self.optimizer.build(ever_trained(model, [self.tuner]))
        model.compile(optimizer=self.optimizer, jit_compile=False)

    def train(self, epoch: int) -> None:
        from pipelines.epoch import train_epoch

        train_epoch(self.model, self.examples, [self.tuner], epoch, epoch)

    def parts(self) -> list[Share]:
        """Changes the weights: after what is judged."""
        from towers.runtime import tf

        model, tuner, top = self.model, self.tuner, self.model.text_top
        numbers = list(range(min(_BATCHES, len(self.examples))))
        given = [self.examples.batch(1, number) for number in numbers]
        whole = [tuner.add_to(batch) for batch in given]
        tensors = [{name: tf.constant(value) for name, value in batch.items()} for batch in whole]
        table_only = [{name: tf.constant(value) for name, value in batch.items()} for batch in given]
        upper, all_weights = top.trainable_weights, model.trainable_variables
        ours = {id(weight) for weight in upper}
        rest = [weight for weight in all_weights if id(weight) not in ours]

        @tf.function(reduce_retracing=True)
        def encode(batch: Any) -> Any:
            return tf.reduce_sum(top(batch["states"], batch["lengths"], training=True))

        @tf.function(reduce_retracing=True)
        def encode_and_back(batch: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(top(batch["states"], batch["lengths"], training=True)[:, 0])
            return [tf.reduce_sum(found) for found in tape.gradient(loss, [weight.value for weight in upper])]

        @tf.function(reduce_retracing=True)
        def towers(batch: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = model.compute_loss(batch, None, model(batch, training=True))
            found = tape.gradient(loss, [weight.value for weight in rest])
            return [tf.reduce_sum(gradient) for gradient in found if gradient is not None]

        @tf.function
        def update(gradients: Any) -> None:
            self.optimizer.apply_gradients(list(zip(gradients, all_weights, strict=True)))

        forward, both = milliseconds(encode, tensors), milliseconds(encode_and_back, tensors)
        zeros = [tf.zeros(weight.shape) for weight in all_weights]
        return [
            Share("make the batch", milliseconds(lambda number: self.examples.batch(1, number), numbers)),
            Share("read the frozen layers' output", milliseconds(tuner.add_to, given)),
            Share("thawed layers, forward", forward),
            Share("thawed layers, backward", both - forward),
            Share("history, user tower and losses, forward and backward", milliseconds(towers, table_only)),
            Share("optimizer", milliseconds(update, [zeros] * 4)),
            Share(
                f"renew the vectors of {len(tuner.read):,} articles of histories, once an epoch",
                milliseconds(lambda rows: tuner.renew(rows), [tuner.read]),
                per_step=False,
            ),
        ]
