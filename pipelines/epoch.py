"""One epoch of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipelines.data.examples import TrainingExamples
from pipelines.distributed import workers
from pipelines.optimizer import Tuner
from pipelines.progress import track


def train_epoch(model: Any, examples: TrainingExamples, tuners: Sequence[Tuner], epoch: int, epochs: int) -> float:
    """Train a compiled model on every batch of an epoch, and return the mean loss of a row.

    Of several workers (`pipelines.distributed`), each takes its share of every batch.

    A batch is made while the model works on the one before. The train function is traced once: how many articles a
    batch has, and of how many tokens, is left open.
    """
    from towers.runtime import keras, tf

    for tuner in tuners:
        tuner.begin(epoch)
    if tuners and hasattr(model, "towers"):
        # A tuner renews the train function of the towers that it knows, and not of what holds them.
        model.make_train_function(force=True)
    first = _batch(examples, tuners, epoch, 0)
    batches = (
        tf.data.Dataset.from_generator(
            lambda: _batches(examples, tuners, epoch),
            output_signature={
                name: tf.TensorSpec([None, *values.shape[1:]], values.dtype) for name, values in first.items()
            },
        )
        .apply(tf.data.experimental.assert_cardinality(len(examples)))
        .prefetch(1)
    )
    steps = track(range(len(examples)), f"epoch {epoch} of {epochs}", len(examples))
    shown = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: next(steps))
    together = workers()
    if together is None:
        loss = float(model.fit(batches, shuffle=False, verbose=0, callbacks=[shown]).history["loss"][0])
    else:
        loss = together.fit(model, batches, epoch)
    next(steps, None)
    for tuner in tuners:
        tuner.end()
    return loss


def _batches(examples: TrainingExamples, tuners: Sequence[Tuner], epoch: int) -> Iterator[dict[str, np.ndarray]]:
    for number in range(len(examples)):
        yield _batch(examples, tuners, epoch, number)


def _batch(examples: TrainingExamples, tuners: Sequence[Tuner], epoch: int, number: int) -> dict[str, np.ndarray]:
    batch = examples.batch(epoch, number)
    for tuner in tuners:
        batch = tuner.add_to(batch, np.random.default_rng((examples.seed, epoch, number, 3)))
    together = workers()
    return batch if together is None else together.share(batch)
