"""Training with everything on: it learns, resumes, shares out, and what is kept is the model without views."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import fit as fitting
from pipelines.balance import additions
from pipelines.build import build_model, two_tower
from pipelines.data.dataset import Dataset
from pipelines.distributed import Workers
from pipelines.fit import training_examples
from pipelines.item_table import with_views
from pipelines.prepare import prepare
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.text_states import without_tokens
from pipelines.training import train

BALANCE = {
    "head": 0.8,
    "weights": 0.5,
    "upsample": {"to": 0.6},
    "synthetic": {"to": 0.8, "neighbours": 3},
    "simulated": {"events": 3},
}
AUGMENTATION = {
    "history": {"crop": 0.2, "mask": 0.2, "substitute": 0.2, "reorder": 0.3},
    "text": {"token_dropout": 0.3, "swap_fields": 0.5},
}


def everything(base: dict[str, Any], **training: Any) -> dict[str, Any]:
    values = copy.deepcopy(base) | {"balance": BALANCE, "augmentation": AUGMENTATION}
    values["training"] |= {"epochs": 2} | training
    return values


class Stopped(Exception):
    pass


def test_it_learns_from_all_of_it_and_a_stopped_run_ends_the_same(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = everything(plain_recipe, refit=True)
    values["towers"] |= {"dropout": 0.2, "id_dropout": 0.2}
    recipe, data = Recipe.model_validate(values | {"adaptation": {"domain": "language"}}), Dataset.open(dataset_folder)
    metrics = train(recipe, data, tmp_path / "whole")
    report = metrics["balance"]
    assert min(report[step]["added"] for step in ("simulated", "upsample", "synthetic")) > 0
    assert report["weights"]["lowest"] < 1 < report["weights"]["highest"]
    assert metrics["augmentation"]["text"]["views"] > 0
    assert metrics["refit"]
    run = Run.open(tmp_path / "whole")
    assert run.model(prepare(data, recipe).catalogue).items.rows == len(prepare(data, recipe).catalogue) + 1

    train_epoch = fitting.train_epoch

    def stop(model: Any, examples: Any, tuners: Any, epoch: int, epochs: int) -> float:
        loss = train_epoch(model, examples, tuners, epoch, epochs)
        if epoch == 2:
            raise Stopped
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "train_epoch", stop)
        with pytest.raises(Stopped):
            train(recipe, data, tmp_path / "stopped")
    assert train(recipe, data, tmp_path / "stopped", resume=True) == metrics


def test_with_histories_of_others_and_a_loss_over_the_catalogue(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path
) -> None:
    values = everything(plain_recipe, catalogue_weight=1.0, shown_weight=0.0, max_examples_per_user=4, epochs=1)
    values["data"] = {
        "split": {"by": "random", "validation": 0.2, "test": 0.2},
        "examples": "interactions",
        "histories": "others",
    }
    metrics = train(Recipe.model_validate(values), Dataset.open(dataset_folder), tmp_path / "run")
    assert np.isfinite(metrics["loss"]).all()
    assert metrics["balance"]["synthetic"]["added"] > 0


def test_with_fine_tuning_tokens_are_dropped_and_the_same_seed_gives_the_same(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path
) -> None:
    values = copy.deepcopy(plain_recipe)
    values["training"]["epochs"] = 2
    values["fine_tuning"] = {"stages": [{"epoch": 1, "layers": [0]}], "learning_rate": 1e-3, "warmup_steps": 2}
    data, losses = Dataset.open(dataset_folder), []
    for share in (None, 0.4, 0.4):
        if share:
            values["augmentation"] = {"text": {"token_dropout": share}, "history": {"substitute": 0.2}}
        metrics = train(Recipe.model_validate(values), data, tmp_path / f"run{len(losses)}")
        losses.append(metrics["loss"])
    assert losses[0] != losses[1] == losses[2]


def test_dropped_tokens_leave_each_text_its_first_and_the_shortest_before(tmp_path: Path) -> None:
    lengths = np.array([0, 1, 3, 5, 5], np.int32)
    text = np.repeat(np.arange(5), lengths)
    place = np.arange(14) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    given = {"encoded": np.array([9, 4, 7, 2, 3], np.int32), "states": np.stack([text, place], 1), "lengths": lengths}
    seen = set()
    for seed in range(20):
        found = without_tokens(given, 0.5, np.random.default_rng(seed))
        assert (np.diff(found["lengths"]) >= 0).all()
        assert found["lengths"].sum() == len(found["states"])
        start = 0
        for row, length in zip(found["encoded"], found["lengths"], strict=True):
            part = found["states"][start : start + length]
            start += length
            assert (part[:, 0] == list(given["encoded"]).index(row)).all()
            assert (np.diff(part[:, 1]) > 0).all()
            assert not length or part[0, 1] == 0
        assert found["lengths"][0] == 0
        seen.add(tuple(found["lengths"]))
    assert len(seen) > 3


def test_a_view_is_its_item_among_the_negatives(dataset_folder: Path, plain_recipe: dict[str, Any]) -> None:
    """An accidental hit is one also where the two rows see the item as different views."""
    from towers.runtime import tf

    values = everything(plain_recipe, shown_weight=0.0)
    values["towers"] |= {"dropout": 0.0, "id_dropout": 0.0, "history_dropout": 0.0}
    recipe = Recipe.model_validate(values)
    data = prepare(Dataset.open(dataset_folder), recipe)
    plain = training_examples(recipe, data)
    found = additions(recipe, data, plain.positives)
    assert found is not None
    assert found.views is not None
    model = build_model(recipe, data.vocabulary, data.catalogue)
    twin = two_tower(
        recipe, model.content, model.behaviour, with_views(model.items, found.views), views=len(found.views)
    )
    assert [weight.path for weight in twin.weights] == [weight.path for weight in model.weights]

    def loss(batch: dict[str, np.ndarray], of: Any) -> np.ndarray:
        given = {name: tf.constant(array) for name, array in batch.items()}
        return of.compute_loss(x=given, y_pred=of(given, training=True)).numpy()

    batch = training_examples(recipe, data, views=found.views).batch(1, 0)
    as_items = {**batch, "view": batch["positive"], "shown_view": batch["shown"]}
    without = {name: array for name, array in batch.items() if name not in ("view", "shown_view")}
    np.testing.assert_allclose(loss(as_items, twin), loss(without, model), rtol=1e-6)
    # Two rows of one item: neither is a negative of the other, so each loss is that of a row alone.
    rows = np.flatnonzero(found.views.item == found.views.item[0])[:2]
    two = {name: array[:2].copy() for name, array in batch.items()}
    two["history"][:] = 0
    two["positive"][:] = found.views.item[0]
    two["view"] = (found.views.begin + rows).astype(np.int32)
    assert loss(two, twin) == pytest.approx(0, abs=1e-5)
    two["positive"][1] = 1 + two["positive"][0] % len(data.catalogue)
    assert loss(two, twin) > 1e-3


def test_workers_share_out_views_with_their_positives(dataset_folder: Path, plain_recipe: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(everything(plain_recipe))
    data = prepare(Dataset.open(dataset_folder), recipe)
    found = additions(recipe, data, training_examples(recipe, data).positives)
    assert found is not None
    batch = training_examples(recipe, data, added=found.positives, views=found.views).batch(1, 0)
    pairs = set(zip(batch["positive"].tolist(), batch["view"].tolist(), strict=True))
    for index in range(3):
        share = Workers(None, index, 3).share(batch)
        assert len(share["view"]) == len(batch["view"])
        assert share["shown_view"].shape == share["shown"].shape
        assert set(zip(share["positive"].tolist(), share["view"].tolist(), strict=True)) == pairs
