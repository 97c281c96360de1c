"""Fine-tuning throughput and quality: recipes/news_finetuned.yaml beside a plain Keras loop, in one run.

Both see the same batches, have the same threads, and are judged on the same slates.
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
            command = [
                sys.executable,
                "-m",
                "benchmarks.finetuning.run",
                way,
                str(folder / "train"),
                str(folder / "dev"),
            ]
            print(measure(*command).output.strip(), flush=True)


def one(way: str, train: Path, dev: Path) -> str:
    """Train one way and describe it: rate of the last epoch, dev AUC with its interval, peak memory, time by part."""
    from benchmarks.finetuning.ours import Ours
    from benchmarks.finetuning.parts import table
    from benchmarks.finetuning.plain import Plain
    from pipelines.build import build_model
    from pipelines.data.dataset import Dataset
    from pipelines.data.examples import TrainingExamples
    from pipelines.data.splits import Part
    from pipelines.prepare import prepare
    from pipelines.recipe import Recipe

    recipe = Recipe.load(shipped("news_finetuned"))
    data, judged = (prepare(Dataset.open(folder), recipe) for folder in (train, dev))
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
        start = time.perf_counter()
        trained = (Plain if way == "plain" else Ours)(recipe, data, model, examples, Path(folder))
        once = time.perf_counter() - start
        spent = [_spent(trained.train, epoch) for epoch in range(1, _EPOCHS + 1)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        auc = _dev_auc(recipe, data, judged, model)
        parts = table(trained.parts(), steps=len(examples), seconds=spent[-1][0])
    rates = [len(examples.rows) / seconds for seconds, _ in spent]
    whole = _EPOCHS * len(examples.rows) / (once + sum(seconds for seconds, _ in spent))
    by_cpu = len(examples.rows) / spent[-1][1]
    by_epoch = ", ".join(f"{rate:.0f}" for rate in rates)
    return (
        f"{way:8} {rates[-1]:6.0f} examples/s in epoch {_EPOCHS} ({by_cpu:.0f} a CPU second; "
        f"by epoch {by_epoch}, the first with tracing; {whole:.0f} over all with {once:.0f} s of preparation), "
        f"dev AUC {auc}, peak {peak:,.0f} MiB\n{parts}"
    )


def _spent(train: Any, epoch: int) -> tuple[float, float]:
    """Wall and CPU seconds of an epoch."""
    wall, cpu = time.perf_counter(), time.process_time()
    train(epoch)
    return time.perf_counter() - wall, time.process_time() - cpu


def _dev_auc(recipe: Any, data: Any, judged: Any, model: Any) -> Any:
    """With its interval, every item of the dev catalogue encoded by the trained encoder."""
    from pipelines.build import build_model
    from pipelines.judge import Slates
    from pipelines.metrics import bootstrap
    from pipelines.model_ranker import ModelRanker
    from towers.runtime import tf

    fresh = build_model(recipe.model_copy(update={"fine_tuning": None}), data.vocabulary, judged.catalogue)
    for layer, tuned in ((fresh.content, model.content), (fresh.behaviour, model.behaviour)):
        layer.set_weights(tuned.get_weights())
    encode = tf.function(model.text_top.encoder.value.encode, input_signature=[tf.TensorSpec([None], tf.string)])
    texts = [str(text) for text in judged.catalogue.text]
    blocks = [encode(tf.constant(texts[start : start + 64])).numpy() for start in range(0, len(texts), 64)]
    fresh.items.text[1:].assign(np.concatenate(blocks))
    slates = Slates.of(judged.behaviour, np.ones(len(judged.behaviour.requests), bool), known_only=True)
    return bootstrap({"auc": slates.metrics(ModelRanker(fresh, judged.window))["auc"]}, seed=1)["auc"]


if __name__ == "__main__":
    print(one(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
