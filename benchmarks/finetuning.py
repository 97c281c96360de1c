"""Fine-tuning throughput and quality: recipes/news_finetuned.yaml beside a plain Keras loop, in one run.

The plain loop is what one would write first: the whole backbone on every candidate title of the batch, padded to 32
tokens, histories from stored vectors, one learning rate. Both see the same batches and are judged on the same slates.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.sources import NotHere, source
from recipes import shipped

_EPOCHS = 3


def run() -> None:
    try:
        data = source("mind-mini")
    except NotHere as missing:
        print(missing)
        return
    from benchmarks.commands import BELFRY, measure

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("train", "dev"):
            measure(BELFRY, "data", "import", "mind", data / part, folder / part)
        for way in ("plain", "belfry"):
            command = [sys.executable, "-m", "benchmarks.finetuning", way, str(folder / "train"), str(folder / "dev")]
            print(measure(*command).output.strip(), flush=True)


def one(way: str, train: Path, dev: Path) -> str:
    """Train one way and return a line: examples/s of the last epoch, in which nothing is thawed or traced anew, dev AUC
    with its interval, peak memory."""
    from pipelines.build import build_model
    from pipelines.data.dataset import Dataset
    from pipelines.data.examples import TrainingExamples
    from pipelines.data.splits import Part
    from pipelines.item_table import text_table
    from pipelines.judge import Slates
    from pipelines.metrics import bootstrap
    from pipelines.model_ranker import ModelRanker
    from pipelines.prepare import prepare
    from pipelines.recipe import Recipe

    recipe = Recipe.load(shipped("news_finetuned"))
    both = [prepare(Dataset.open(folder), recipe) for folder in (train, dev)]
    data = both[0]
    model = build_model(recipe, data.vocabulary, data.catalogue, train_projection=False)
    settings = recipe.training
    examples = TrainingExamples(
        data.behaviour,
        data.window,
        (data.parts.interactions == Part.TRAIN) & (data.behaviour.interactions.request >= 0),
        items=len(data.catalogue),
        batch_size=settings.batch_size,
        shown_negatives=settings.shown_negatives,
        max_per_user=None,
        seed=settings.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        steps = (_plain if way == "plain" else _ours)(recipe, data, model, Path(folder))
        start = time.perf_counter()
        rates = [_epoch(examples, steps, epoch) for epoch in range(1, _EPOCHS + 1)]
        seconds = time.perf_counter() - start
    encoder = model.text_top.encoder.value
    judged = both[1]
    fresh = build_model(recipe.model_copy(update={"fine_tuning": None}), data.vocabulary, judged.catalogue)
    for layer, tuned in ((fresh.content, model.content), (fresh.behaviour, model.behaviour)):
        layer.set_weights(tuned.get_weights())
    fresh.items.text.assign(text_table(judged.catalogue.text, encoder, f"{way} {time.time_ns()}"))
    slates = Slates.of(judged.behaviour, np.ones(len(judged.behaviour.requests), bool), known_only=True)
    auc = bootstrap({"auc": slates.metrics(ModelRanker(fresh, judged.window))["auc"]}, seed=1)["auc"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    by_epoch = ", ".join(f"{rate:.0f}" for rate in rates)
    return (
        f"{way:8} {rates[-1]:6.0f} examples/s (by epoch {by_epoch}), dev AUC {auc}, peak {peak:,.0f} MiB, "
        f"{seconds:.0f} s for {_EPOCHS} epochs"
    )


def _epoch(examples: Any, step: Any, epoch: int) -> float:
    start = time.perf_counter()
    for number in range(len(examples)):
        step(epoch, examples.batch(epoch, number))
    return len(examples.rows) / (time.perf_counter() - start)


def _ours(recipe: Any, data: Any, model: Any, folder: Path) -> Any:
    from pipelines.fine_tune import FineTuner
    from pipelines.optimizer import ever_trained, optimizer_for
    from pipelines.recipe import Stage

    assert recipe.fine_tuning is not None
    # One layer in the first epoch, both in the others.
    stages = (Stage(epoch=1, layers=(5,)), Stage(epoch=2, layers=(4,)))
    tuner = FineTuner(model, recipe.fine_tuning.model_copy(update={"stages": stages}), data.catalogue.text, folder)
    optimizer = optimizer_for(recipe, model)
    optimizer.build(ever_trained(model, [tuner]))
    model.compile(optimizer=optimizer, jit_compile=False)
    begun = 0

    def step(epoch: int, batch: dict[str, np.ndarray]) -> None:
        nonlocal begun
        if epoch != begun:
            if begun:
                tuner.end()
            tuner.begin(epoch)
            begun = epoch
        model.train_on_batch(tuner.add_to(batch))

    return step


def _plain(recipe: Any, data: Any, model: Any, folder: Path) -> Any:
    from towers.runtime import keras, tf

    encoder = model.text_top.encoder.value
    texts = tf.constant(["", *data.catalogue.text])
    optimizer = keras.optimizers.AdamW(2e-5)
    encoder.backbone.trainable = True

    @tf.function(reduce_retracing=True)
    def loss_and_update(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            user = model(batch, training=True)
            candidates = tf.concat([batch["positive"][:, None], batch["shown"]], axis=1)
            tokens = encoder.tokenize(tf.gather(texts, tf.reshape(candidates, [-1])))
            vectors = tf.reshape(encoder(tokens, training=True), [*tf.unstack(tf.shape(candidates)), encoder.width])
            scores = tf.linalg.matvec(vectors, user)
            scores = tf.where(candidates > 0, scores, -1e9)
            loss = tf.reduce_mean(-tf.nn.log_softmax(scores)[:, 0])
        weights = encoder.backbone.trainable_variables
        pairs = [
            (g, w)
            for g, w in zip(tape.gradient(loss, [w.value for w in weights]), weights, strict=True)
            if g is not None
        ]
        optimizer.apply_gradients(pairs)
        return loss

    return lambda epoch, batch: loss_and_update({name: tf.constant(value) for name, value in batch.items()})


if __name__ == "__main__":
    print(one(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
