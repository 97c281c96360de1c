"""Items of which nothing is known but their image, from the dataset to the saved model."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.build import build_model
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.evaluation import evaluate
from pipelines.image_vectors import ImagePixels, image_table, load_image_encoder
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.saved_model import export
from pipelines.training import train
from tests.pipelines.conftest import MakeDataset

ITEMS, BROKEN, BARE = 60, 7, 8
DAY = 86_400


def picture(stripes: str, seed: int) -> bytes:
    """Stripes across or down, of any colour: no mean of pixels tells the two apart."""
    rng = np.random.default_rng(seed)
    line = np.where(np.arange(16) // 2 % 2 == rng.integers(2), 200, 40)
    pixels = np.broadcast_to(line[:, None] if stripes == "across" else line[None], (16, 16))[..., None]
    noisy = np.clip(pixels * rng.uniform(0.5, 1, 3) + rng.normal(0, 20, (16, 16, 3)), 0, 255)
    file = io.BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def striped(make_dataset: MakeDataset) -> Dataset:
    """Readers of stripes across and down; ten new items a day, and on the last day nothing else is shown."""
    rng = np.random.default_rng(1)
    items: list[dict[str, Any]] = [
        {"item_id": f"i{n:02}", "image": picture(("across", "down")[n % 2], n), "published_at": n // 10 * DAY + 1}
        for n in range(ITEMS)
    ]
    items[BROKEN]["image"] = b"\x89PNG\r\n\x1a\nand nothing more"
    items[BARE]["image"] = None
    events = []
    for request in range(600):
        at = 2 + int(6 * DAY * request / 600)
        today = np.arange(at // DAY * 10, at // DAY * 10 + 10)
        user = int(rng.integers(40))
        for position, item in enumerate(rng.choice(today, 4, replace=False)):
            shown = {"user_id": f"u{user:02}", "item_id": f"i{item:02}", "request_id": f"r{request}", "at": at}
            events.append(shown | {"position": position, "kind": "impression"})
            if rng.random() < (0.8 if item % 2 == user % 2 else 0.02):
                events.append(shown | {"position": position, "kind": "click"})
    return make_dataset(events, items)


@pytest.fixture(scope="module")
def visual(tiny_image_preset: str) -> dict[str, Any]:
    return {
        "data": {"split": {"by": "time", "validation": 0.0, "test": 0.16}},
        "features": {
            "text": None,
            "category": False,
            "item_id": False,
            "language": False,
            "time_of_day": False,
            "image": {"preset": tiny_image_preset, "size": 16},
            "history": 8,
        },
        "towers": {"width": 16, "history_units": 8, "dropout": 0.0, "history_dropout": 0.0},
        "training": {"epochs": 8, "batch_size": 32, "learning_rate": 1e-2, "in_batch_weight": 0.2, "seed": 3},
        "image_tuning": {"epoch": 2, "learning_rate": 3e-3, "batch_norm": True, "augment": False, "encode": "all"},
        "export": {"top_k": 10},
    }


@pytest.fixture(scope="module")
def run(visual: dict[str, Any], striped: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "visual"
    train(Recipe.model_validate(visual), striped, out)
    return Run.open(out)


def test_new_items_are_ranked_by_what_their_image_shows(run: Run) -> None:
    found = evaluate(run)["slates"]["metrics"]
    assert found["two-tower"]["auc"]["mean"] > 0.8


def test_a_reopened_run_has_the_tuned_encoder(run: Run, striped: Dataset) -> None:
    catalogue = Catalogue.load(striped)
    tuned, start = run.model(catalogue), build_model(run.recipe, run.vocabulary, catalogue)
    moved = [
        np.abs(left.numpy() - right.numpy()).max()
        for left, right in zip(tuned.image_encoder.weights, start.image_encoder.weights, strict=True)
    ]
    assert np.median(moved) > 1e-3
    again = image_table(catalogue.images, tuned.image_encoder, "not kept")
    np.testing.assert_allclose(tuned.items.image.numpy(), again, atol=1e-5)


def test_the_tuned_encoder_is_what_is_served(run: Run, tmp_path: Path) -> None:
    # The check inside compares `embed_items` from the files' bytes with the Python model.
    assert export(run, tmp_path / "model").name == "1"


@pytest.mark.usefixtures("loaded_here")
def test_a_frozen_encoder_trains_its_projection_alone_and_is_served(
    visual: dict[str, Any], striped: Dataset, tmp_path: Path
) -> None:
    frozen = {**visual, "image_tuning": None, "training": {**visual["training"], "epochs": 1}}
    train(Recipe.model_validate(frozen), striped, tmp_path / "run")
    assert export(Run.open(tmp_path / "run"), tmp_path / "model").name == "1"


def test_broken_and_missing_images_count_as_none(
    striped: Dataset, visual: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Recipe.model_validate(visual).features.image
    assert image is not None
    encoder, images = load_image_encoder(image, None), Catalogue.load(striped).images
    table = image_table(images, encoder, "counted")
    assert sorted(np.flatnonzero(~table.any(axis=1))) == [0, BROKEN + 1, BARE + 1]
    assert "1 image(s) cannot be decoded" in capsys.readouterr().err
    pixels = ImagePixels.decoded(images, encoder, tmp_path)
    found = pixels.of(np.array([0, 3, BROKEN + 1, 5, BARE + 1]))
    assert list(found["pictured"]) == [3, 5]
    np.testing.assert_allclose(encoder(found["pixels"]).numpy(), table[[3, 5]], atol=1e-5)


def test_the_same_seed_gives_the_same_weights(run: Run, striped: Dataset, tmp_path: Path) -> None:
    assert train(run.recipe, striped, tmp_path / "again")["loss"] == run.metrics["loss"]


def test_no_image_at_all_is_refused(visual: dict[str, Any], dataset_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no item of small has an image"):
        train(Recipe.model_validate(visual), Dataset.open(dataset_folder), tmp_path / "run")
    frozen = Recipe.model_validate({**visual, "image_tuning": None})
    with pytest.raises(BadInput, match="no item of small has an image"):
        train(frozen, Dataset.open(dataset_folder), tmp_path / "run")


def test_what_is_no_image_preset_is_refused(
    visual: dict[str, Any], striped: Dataset, tiny_preset: str, tmp_path: Path
) -> None:
    features = {**visual["features"], "image": {"preset": tiny_preset, "size": 16}}
    with pytest.raises(BadInput, match="is no image preset"):
        train(Recipe.model_validate({**visual, "features": features}), striped, tmp_path / "run")
