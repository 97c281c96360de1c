"""The exact index and ScaNN: 200 thousand items of 128 dimensions, in the session of a model server, one thread."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ITEMS, WIDTH, TOPICS, USERS, FOUND = 200_000, 128, 2_000, 300, 100


def run() -> None:
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    from serving.model_server.loaded import LoadedModel
    from towers.retrieval import ExactIndex, ScannIndex
    from towers.runtime import tf

    rng = np.random.default_rng(0)
    topics = rng.normal(size=(TOPICS, WIDTH))
    items = (topics[rng.integers(0, TOPICS, ITEMS)] + 0.7 * rng.normal(size=(ITEMS, WIDTH))).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    users = (topics[rng.integers(0, TOPICS, USERS)] + 0.7 * rng.normal(size=(USERS, WIDTH))).astype(np.float32)
    rows = tf.Variable(np.concatenate([np.zeros((1, WIDTH), np.float32), items]))
    offer = np.ones(ITEMS, bool)

    class Retrieval(tf.Module):
        def __init__(self, index: Any) -> None:
            super().__init__()
            self.index, self.rows = index, rows

        @tf.function(
            input_signature=[tf.TensorSpec([None, WIDTH]), tf.TensorSpec([None, None], tf.int32, name="hidden")]
        )
        def best(self, user: tf.Tensor, hidden: tf.Tensor) -> dict[str, tf.Tensor]:
            scores, found = self.index(user, hidden)
            _, place = tf.math.top_k(scores, FOUND)
            return {"rows": place if found is None else tf.gather(found, place, batch_dims=1)}

    print(f"{'index':8}{'build s':>9}{'load s':>8}{'on disk MiB':>13}{'ms a user':>11}{'p99':>7}{'recall@10':>11}")
    expected = None
    for name in ("exact", "scann"):
        started = time.perf_counter()
        index = ExactIndex(rows, tf.Variable([False, *offer])) if name == "exact" else ScannIndex(items, offer, FOUND)
        built = time.perf_counter() - started
        with tempfile.TemporaryDirectory() as folder:
            tf.saved_model.save(module := Retrieval(index), folder, signatures=module.best.get_concrete_function())
            disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 2**20
            started = time.perf_counter()
            model = LoadedModel(Path(folder), intra_op_parallelism=1)
            loaded = time.perf_counter() - started
            signature = model.signature("")
            assert signature is not None
            took, found = [], []
            for user in users:
                started = time.perf_counter()
                asked = {"user": user[None], "hidden": np.zeros((1, 1), np.int32)}
                found.append(model.run(signature, asked)["rows"][0])
                took.append((time.perf_counter() - started) * 1000)
            model.close()
        expected = found if expected is None else expected
        recall = np.mean([np.isin(a[:10], b[:10]).mean() for a, b in zip(expected, found, strict=True)])
        print(
            f"{name:8}{built:>9.1f}{loaded:>8.1f}{disk:>13.0f}{np.median(took):>11.2f}{np.quantile(took, 0.99):>7.2f}"
            f"{recall:>11.1%}",
            flush=True,
        )
