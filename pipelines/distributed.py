"""Training in several processes that sum their gradients, by `tf.distribute.MultiWorkerMirroredStrategy`.

The same `belfry train` is started on every machine, with TF_CONFIG set as TensorFlow has it; dataset and run folder are
under the same path everywhere. Each worker holds the whole model and makes the same batches, asks the queries of its
own rows against all positives of the batch, and applies the sum of everybody's gradients: weights equal those of one
process within rounding. (Dropout draws otherwise, and batch normalisation sees a worker's own histories.)

Worker 0 writes the run. When a worker is lost the others end with an error, and `--resume` on all goes on from the last
epoch's checkpoint. Second stage, linear model and validation are computed by every worker alike, not shared out.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import BadInput, Stopped
from pipelines.unfinished import partial_of

# Of a batch, what belongs to a row. What is encoded or pictured is for all rows.
_OF_ROWS = (
    *("history", "age_seconds", "dwell_seconds", "scroll_depth", "language", "device", "time_seconds"),
    *("weight", "read", "shown", "shown_view"),
)
_OF_POSITIVES = ("positive", "probability", "view")
_STATISTICS = ("moving_mean", "moving_variance")


@dataclass(frozen=True)
class Workers:
    """This process among those that train together.

    Attributes:
        strategy: A `MultiWorkerMirroredStrategy` with one replica in each process.
        index: Of this process.
        count: Of all.
    """

    strategy: Any
    index: int
    count: int

    def share(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """This worker's rows of a batch, with all positives, those of its rows first.

        Of a batch with fewer rows than workers, some get a row that has no weight, since TFRS takes no empty batch.
        """
        rows = len(batch["positive"])
        own = np.array_split(np.arange(rows), self.count)[self.index]
        weight = batch["weight"][own]
        if not len(own):
            own, weight = np.zeros(1, int), np.zeros_like(batch["weight"][:1])
        first = np.r_[own, np.setdiff1d(np.arange(rows), own)]
        return (
            batch
            | {name: batch[name][own] for name in _OF_ROWS if name in batch}
            | {name: batch[name][first] for name in _OF_POSITIVES if name in batch}
            | {"weight": weight}
        )

    def fit(self, model: Any, batches: Iterable[Any], epoch: int) -> float:
        """Train a compiled `TwoTower` on shares of the batches of an epoch, and return the mean loss of a row.

        Raises:
            Stopped: The workers did not begin with the same weights, or one was lost.
        """
        from towers.runtime import tf

        try:
            self._check_same(model, epoch)
            step = self._step(model)
            losses, rows = [], []
            for batch in batches:
                losses.append(float(step(batch)))
                rows.append(len(batch["positive"]))
            for weight in model.non_trainable_variables:
                if weight.path.endswith(_STATISTICS):
                    weight.assign(self._sum([weight.value / self.count])[0])
        except tf.errors.OpError as error:
            if "ollective" not in str(error):
                raise
            raise Stopped(
                f"a worker was lost in epoch {epoch}: start all again with --resume to go on after the epoch before."
            ) from error
        return float(np.average(losses, weights=rows))

    @contextlib.contextmanager
    def folder(self, out: Path) -> Iterator[Path]:
        """Where this worker keeps its run: worker 0 at `out`, others in a folder of their own that goes.

        What there is to resume at `out` is there for all.
        """
        if self.index == 0:
            yield out
            return
        with tempfile.TemporaryDirectory() as own:
            begun = partial_of(out)
            if begun.exists():
                left_out = shutil.ignore_patterns("scratch")
                shutil.copytree(begun, partial_of(Path(own) / out.name), ignore=left_out)
            yield Path(own) / out.name

    def _check_same(self, model: Any, epoch: int) -> None:
        from towers.runtime import tf

        sizes = [float(epoch), *(float(tf.reduce_sum(tf.abs(weight.value))) for weight in model.trainable_variables)]
        mine = tf.constant(sizes)
        if not np.allclose(self._sum([mine / self.count])[0], mine, rtol=1e-4):
            raise Stopped(
                "the workers do not train the same model: give all the same recipe, dataset and --out, in folders that "
                "they share."
            )

    def _sum(self, values: list[Any]) -> list[Any]:
        from towers.runtime import tf

        @tf.function
        def summed() -> Any:
            context = tf.distribute.get_replica_context
            return self.strategy.run(lambda: context().all_reduce(tf.distribute.ReduceOp.SUM, values))

        return list(summed())

    def _step(self, model: Any) -> Any:
        """One step on a share of a batch; returns the mean loss of the batch's rows."""
        from towers.runtime import tf

        weights = model.trainable_variables

        @tf.function(reduce_retracing=True)
        def step(batch: Any) -> Any:
            reached: list[int] = []

            def own() -> Any:
                with tf.GradientTape() as tape:
                    loss = model.compute_loss(x=batch, y_pred=model(batch, training=True))
                gradients = tape.gradient(loss, [weight.value for weight in weights])
                reached[:] = [place for place, gradient in enumerate(gradients) if gradient is not None]
                dense = [tf.convert_to_tensor(gradients[place]) for place in reached]
                return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, [loss, *dense])

            loss, *summed = self.strategy.run(own)
            model.optimizer.apply_gradients(
                [(gradient, weights[place]) for gradient, place in zip(summed, reached, strict=True)]
            )
            return loss

        return step


@functools.cache
def workers() -> Workers | None:
    """The workers that TF_CONFIG names; None where this process trains alone.

    To be called before TensorFlow has run anything. It waits for the others.

    Raises:
        BadInput: TF_CONFIG is not one of workers alone.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        count, index = len(config["cluster"]["worker"]), int(config["task"]["index"])
        if set(config["cluster"]) != {"worker"} or config["task"]["type"] != "worker" or not 0 <= index < count:
            raise ValueError("a job has workers alone, and a task is one of them")
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f'TF_CONFIG cannot be used ({error}): it should be {{"cluster": {{"worker": ["host:port", ...]}}, '
            '"task": {"type": "worker", "index": 0}}.'
        ) from None
    if count == 1:
        return None
    from towers.runtime import tf

    return Workers(tf.distribute.MultiWorkerMirroredStrategy(), index, count)
