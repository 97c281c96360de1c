"""An epoch on batches whose number of articles varies, against Keras' own step batch by batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.build import build_model
from pipelines.data.dataset import Dataset
from pipelines.data.examples import TrainingExamples
from pipelines.epoch import train_epoch
from pipelines.fine_tune import FineTuner
from pipelines.optimizer import ever_trained, optimizer_for
from pipelines.prepare import Prepared, prepare
from pipelines.recipe import Recipe
from towers.two_tower import TwoTower


@pytest.fixture(scope="module")
def recipe(small_recipe: dict[str, Any]) -> Recipe:
    schedule = {"stages": [{"epoch": 1, "layers": [0]}], "learning_rate": 1e-3, "warmup_steps": 2}
    return Recipe.model_validate({**small_recipe, "fine_tuning": schedule})


@pytest.fixture(scope="module")
def data(recipe: Recipe, dataset_folder: Path) -> Prepared:
    return prepare(Dataset.open(dataset_folder), recipe)


def started(recipe: Recipe, data: Prepared, folder: Path) -> tuple[Any, TrainingExamples, FineTuner]:
    model = build_model(recipe, data.vocabulary, data.catalogue)
    chosen = np.arange(len(data.behaviour.interactions)) % 30 == 0
    examples = TrainingExamples(
        *(data.behaviour, data.window, chosen),
        items=len(data.catalogue),
        batch_size=8,
        shown_negatives=2,
        max_per_user=None,
        seed=1,
    )
    assert recipe.fine_tuning is not None
    tuner = FineTuner(model, recipe.fine_tuning, data.catalogue.text, folder)
    optimizer = optimizer_for(recipe, model)
    optimizer.build(ever_trained(model, [tuner]))
    model.compile(optimizer=optimizer, jit_compile=False)
    return model, examples, tuner


def test_an_epoch_is_its_batches_and_is_traced_once(
    recipe: Recipe, data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, examples, tuner = started(recipe, data, tmp_path / "one")
    traced = []
    compute_loss = TwoTower.compute_loss
    monkeypatch.setattr(TwoTower, "compute_loss", lambda *a, **b: traced.append(1) or compute_loss(*a, **b))
    loss = train_epoch(model, examples, [tuner], 1, 1)
    batches = [tuner.add_to(examples.batch(1, number)) for number in range(len(examples))]
    assert len({len(batch["encoded"]) for batch in batches}) > 1
    assert len(traced) == 1
    monkeypatch.undo()

    other, examples, tuner = started(recipe, data, tmp_path / "other")
    other.compile(optimizer=other.optimizer, run_eagerly=True)  # every step would be traced again
    tuner.begin(1)
    found = [float(other.train_on_batch(batch)) for batch in batches]
    assert np.average(found, weights=[len(batch["positive"]) for batch in batches]) == pytest.approx(loss)
    for left, right in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


def test_only_what_is_read_is_renewed_until_all_is(recipe: Recipe, data: Prepared, tmp_path: Path) -> None:
    model, examples, tuner = started(recipe, data, tmp_path)
    before = model.items.text.numpy()
    tuner.read = np.array([2, 5])
    train_epoch(model, examples, [tuner], 1, 1)
    after = model.items.text.numpy()
    assert list(np.flatnonzero(np.abs(after - before).max(axis=1) > 1e-6)) == [2, 5]
    tuner.renew()
    whole = model.items.text.numpy()
    np.testing.assert_allclose(whole[[2, 5]], after[[2, 5]], atol=1e-6)
    assert (np.abs(whole - before).max(axis=1)[1:] > 1e-6).all()
