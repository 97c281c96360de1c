"""Clicks a second in training: recipes/ids.yaml beside the model of TFRS's own retrieval tutorial, in one run.

The tutorial's model is an embedding of the user and one of the item; it knows no history and no new user. Both train on
the same first clicks of a news portal, one epoch after a short one in which everything is traced.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.sources import NotHere, source

_CLICKS = 200_000


def run() -> None:
    try:
        data = source("globo")
    except NotHere as missing:
        print(missing)
        return
    from benchmarks.commands import BELFRY, measure

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _first_clicks(data / "clicks.parquet", folder / "clicks.parquet")
        measure(BELFRY, "data", "import", "table", folder / "clicks.parquet", folder / "data")
        for way in ("tutorial", "ids"):
            print(
                measure(sys.executable, "-m", "benchmarks.throughput", way, folder / "data").output.strip(), flush=True
            )


def _first_clicks(source_file: Path, target: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(source_file, columns=["user_id", "item_id", "at"]).slice(0, _CLICKS), target)


def one(way: str, folder: Path) -> str:
    from pipelines.data.dataset import Dataset
    from pipelines.prepare import prepare
    from pipelines.recipe import Recipe, Split
    from recipes import shipped

    loaded = Recipe.load(shipped("ids"))
    everything = loaded.data.model_copy(update={"split": Split(by="none")})
    recipe = loaded.model_copy(update={"data": everything})
    data = prepare(Dataset.open(folder), recipe)
    rate = (_tutorial if way == "tutorial" else _ours)(recipe, data)
    return f"{way:9} {rate:10,.0f} clicks/s"


def _ours(recipe: Any, data: Any) -> float:
    from pipelines.build import build_model
    from pipelines.epoch import train_epoch
    from pipelines.fit import training_examples
    from pipelines.optimizer import ever_trained, optimizer_for

    model = build_model(recipe, data.vocabulary, data.catalogue)
    optimizer = optimizer_for(recipe, model)
    optimizer.build(ever_trained(model, []))
    model.compile(optimizer=optimizer, jit_compile=False)
    count = len(data.behaviour.interactions)
    few = training_examples(recipe, data, np.arange(count) % 50 == 0)
    train_epoch(model, few, [], 1, 1)
    examples = training_examples(recipe, data)
    start = time.perf_counter()
    train_epoch(model, examples, [], 1, 1)
    return len(examples.rows) / (time.perf_counter() - start)


def _tutorial(recipe: Any, data: Any) -> float:
    """Embeddings of 32, Adagrad at 0.1 and batches of 8,192, as the tutorial has them."""
    from towers.runtime import tf, tfrs

    log = data.behaviour.interactions
    keras = tf.keras  # Keras 2, which TFRS is made of

    class Tutorial(tfrs.Model):
        def __init__(self) -> None:
            super().__init__()
            self.users = keras.layers.Embedding(len(log.user_ids), 32)
            self.items = keras.layers.Embedding(len(data.catalogue) + 1, 32)
            self.task = tfrs.tasks.Retrieval()

        def compute_loss(self, batch: dict, training: bool = False) -> tf.Tensor:
            return self.task(self.users(batch["user"]), self.items(batch["item"]), compute_metrics=not training)

    model = Tutorial()
    model.compile(optimizer=keras.optimizers.Adagrad(0.1))
    batches = tf.data.Dataset.from_tensor_slices({"user": log.user, "item": log.item}).shuffle(_CLICKS, seed=1)
    batches = batches.batch(8192).cache()
    model.fit(batches.take(3), epochs=1, verbose=0)
    start = time.perf_counter()
    model.fit(batches, epochs=1, verbose=0)
    return len(log) / (time.perf_counter() - start)


if __name__ == "__main__":
    print(one(sys.argv[1], Path(sys.argv[2])))
