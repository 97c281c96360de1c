"""Whether an image tower learns what images show: readers who each follow one class of small photographs.

1,600 images are clicked on, 400 are new. The tower sees ids, clicks and pixels, never a class, and starts at random
weights, since no pretrained ones come with Belfry. Beside it: the same encoder untrained, and a linear model on raw
pixels that is told the classes. `BELFRY_DATA` names the folder with `images`.
"""

from __future__ import annotations

import csv
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.sources import NotHere, source

_READERS, _CLICKS, _NEW, _OFF_TOPIC = 400, 30, 40, 0.1
_SIZE = 64


def run() -> None:
    try:
        data = source("images")
    except NotHere as missing:
        print(missing)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tarfile.open(data / "images.tar") as tar:
            tar.extractall(folder / "files", filter="data")
        classes = _write_logs(folder)
        print(_judge(folder, classes), flush=True)


def _write_logs(folder: Path) -> dict[str, int]:
    """Items and events as CSV; returns the class of each item."""
    rng = np.random.default_rng(3)
    groups = sorted({path.parent for path in (folder / "files").rglob("*.*") if path.is_file()})
    members = [rng.permutation(sorted(group.iterdir())) for group in groups]
    classes = {path.stem + f"-{label}": label for label, paths in enumerate(members) for path in paths}
    with (folder / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "image", "published_at"])
        for label, paths in enumerate(members):
            for place, path in enumerate(paths):
                day = "2025-01-01" if place >= _NEW else "2025-03-01"
                rows.writerow([f"{path.stem}-{label}", path.relative_to(folder), f"{day}T00:00:00Z"])
    with (folder / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "at"])
        for minute in range(_READERS * _CLICKS):
            reader = int(rng.integers(_READERS))
            label = int(rng.integers(len(members))) if rng.random() < _OFF_TOPIC else reader % len(members)
            path = members[label][int(rng.integers(_NEW, len(members[label])))]
            at = np.datetime64("2025-01-02T00:00:00") + np.timedelta64(minute, "m")
            rows.writerow([f"reader{reader:03}", f"{path.stem}-{label}", f"{at}Z"])
    return classes


def _judge(folder: Path, classes: dict[str, int]) -> str:
    from pipelines.data.dataset import Dataset
    from pipelines.data.sources.table import import_table
    from pipelines.model_ranker import ModelRanker
    from pipelines.prepare import prepare_for
    from pipelines.rankers import Queries
    from pipelines.run import Run
    from pipelines.training import train

    import_table(folder / "events.csv", folder / "data", items=folder / "items.csv", name="photographs")
    dataset = Dataset.open(folder / "data")
    start = time.perf_counter()
    train(_recipe(folder), dataset, folder / "run")
    seconds = time.perf_counter() - start
    run = Run.open(folder / "run")
    data = prepare_for(run, dataset)
    label = np.array([classes[item] for item in data.catalogue.ids])
    new = data.catalogue.published_at > int(dataset.info.last_at.timestamp())  # type: ignore[union-attr]
    ranker = ModelRanker(run.model(data.catalogue), data.window)
    log = data.behaviour.interactions
    users = np.arange(len(log.user_ids))
    queries = Queries(users, log.user_offsets[users + 1], np.full(len(users), int(log.at.max()) + 1))
    best = np.argsort(-ranker.catalogue(queries, np.tile(new, (len(users), 1))), axis=1)[:, :10]
    liked = np.array([int(name[-3:]) % len(set(label)) for name in log.user_ids])
    lines = {
        "raw pixels, ridge classifier": _accuracy(_pixels(data.catalogue.images), label, new),
        "untrained encoder, ridge classifier": _accuracy(_untrained(folder, data.catalogue.images), label, new),
        "image tower, ridge classifier": _accuracy(ranker.items, label, new),
    }
    found = [f"{name:40} {share:.3f} of {int(new.sum())} new images in their class" for name, share in lines.items()]
    share = float((label[best] == liked[:, None]).mean())
    found.append(f"{'feeds of new images':40} {share:.3f} of the first ten in the reader's class (chance 0.1)")
    return "\n".join([*found, f"trained in {seconds:,.0f} s"])


def _recipe(folder: Path) -> Any:
    from pipelines.recipe import Recipe
    from towers.runtime import keras, keras_hub

    keras.utils.set_random_seed(1)
    keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[5],
        stackwise_num_filters=[64, 128, 256],
        stackwise_num_blocks=[1, 1, 1],
        stackwise_num_strides=[1, 2, 2],
        block_type="basic_block",
    ).save_to_preset(str(folder / "preset"))
    return Recipe.model_validate(
        {
            "data": {"split": {"by": "time", "validation": 0.1, "test": 0.0}, "examples": "interactions"},
            "features": {
                "text": None,
                "image": {"preset": str(folder / "preset"), "size": _SIZE},
                **dict.fromkeys(("category", "language", "item_id", "time_of_day"), False),
                "history": 20,
            },
            "towers": {"width": 128, "history_units": 32, "dropout": 0.2, "history_dropout": 0.0},
            "image_tuning": {"learning_rate": 1e-3, "batch_norm": True},
            "training": {
                "epochs": 14,
                "patience": 4,
                "batch_size": 128,
                "learning_rate": 1e-3,
                "shown_weight": 0.0,
                "shown_negatives": 0,
            },
        }
    )


def _pixels(images: Any) -> np.ndarray:
    """(N, 32 * 32 * 3) raw values from 0 to 1."""
    from towers.runtime import tf

    values = np.zeros((len(images.ids), 32 * 32 * 3))
    for rows, files in images.blocks():
        values[rows - 1] = [tf.io.decode_image(file, channels=3).numpy().ravel() / 255 for file in files]
    return values


def _untrained(folder: Path, images: Any) -> np.ndarray:
    from pipelines.image_vectors import frozen_image_table
    from pipelines.recipe import Image

    return frozen_image_table(images, Image(preset=str(folder / "preset"), size=_SIZE))[1:]


def _accuracy(vectors: np.ndarray, label: np.ndarray, new: np.ndarray) -> float:
    """Of a linear classifier fitted on the old images, its regularisation chosen by leave-one-out among them."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 6, 15)))
    return float(model.fit(vectors[~new], label[~new]).score(vectors[new], label[new]))
