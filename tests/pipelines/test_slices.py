from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.data.dataset import Dataset
from pipelines.data.splits import Part
from pipelines.evaluation import evaluate, table_lines
from pipelines.judge import CatalogueTargets, Slates
from pipelines.prepare import Prepared, prepare
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.slices import Slices


def prepared(dataset_folder: Path, small_recipe: dict[str, Any], **split: Any) -> Prepared:
    return prepare(Dataset.open(dataset_folder), Recipe.model_validate({**small_recipe, "data": {"split": split}}))


@pytest.fixture
def data(dataset_folder: Path, small_recipe: dict[str, Any]) -> Prepared:
    return prepared(dataset_folder, small_recipe, by="items", test=0.3, validation=0.1)


def test_users_and_items_are_divided_without_remainder(data: Prepared) -> None:
    slices = Slices.of(data, data)
    assert (slices.users["new users"] ^ slices.users["known users"]).all()
    kinds = np.stack([slices.items[name] for name in ("new items", "head items", "tail items")])
    assert (kinds.sum(axis=0) == 1).all()
    assert set(slices.items) == {"new items", "head items", "tail items", "language en", "language de"}
    log = data.behaviour.interactions
    trained = log.item[data.parts.interactions == Part.TRAIN]
    assert not slices.items["new items"][trained].any()
    head = slices.items["head items"]
    assert 0.5 <= head[trained].mean() < 0.7
    counts = np.bincount(trained, minlength=len(head))
    assert counts[head].min() >= counts[slices.items["tail items"]].max()


def test_users_that_were_held_out_are_new(dataset_folder: Path, small_recipe: dict[str, Any]) -> None:
    data = prepared(dataset_folder, small_recipe, by="users", test=0.2, validation=0.1)
    new = Slices.of(data, data).users["new users"]
    assert new[data.behaviour.requests.user[data.parts.requests == Part.TEST]].all()


def test_a_slice_is_the_whole_where_everything_is_in_it(data: Prepared) -> None:
    users = {"everybody": np.ones(len(data.behaviour.interactions.user_ids), bool)}
    items = {"everything": np.ones(len(data.catalogue) + 1, bool)}
    slates = Slates.of(data.behaviour, data.parts.requests == Part.TEST, known_only=True)
    scores = np.random.default_rng(0).random(len(slates.item))
    whole = slates.measure(scores)
    for found in Slices(users, items).of_slates(slates, scores).values():
        for metric, values in whole.items():
            np.testing.assert_array_equal(found[metric], values)


def test_clicks_on_other_items_are_left_out_and_not_taken_for_misses(data: Prepared) -> None:
    slates = Slates.of(data.behaviour, data.parts.requests == Part.TEST, known_only=True)
    slices = Slices.of(data, data)
    # Clicked items above all others: the order is perfect in every slice.
    found = slices.of_slates(slates, slates.clicked.astype(float))
    assert {"new items", "head items", "tail items"} <= set(found)
    for metrics in found.values():
        assert np.nanmin(metrics["auc"]) == 1.0


def test_queries_are_divided_by_their_target(data: Prepared) -> None:
    wanted = data.parts.interactions == Part.TEST
    targets = CatalogueTargets.of(data.behaviour, data.catalogue, wanted)
    found = Slices.of(data, data).of_ranks(targets, np.arange(1, len(targets.queries) + 1))
    counts = {name: int(np.isfinite(metrics["ndcg@10"]).sum()) for name, metrics in found.items()}
    kinds = ("new items", "head items", "tail items")
    assert sum(counts.get(name, 0) for name in kinds) == len(targets.queries)
    assert counts["new items"] > 0


def test_an_evaluation_reports_every_slice_of_every_ranker(run_folder: Path) -> None:
    result = evaluate(Run.open(run_folder))
    for part in ("slates", "catalogue"):
        slices = result[part]["slices"]
        assert {"known users", "head items", "tail items", "language en", "language de"} <= set(slices)
        for table in slices.values():
            assert set(table["metrics"]) == set(result[part]["metrics"])
    text = "\n".join(table_lines(result))
    assert "by slice, ndcg@10" in text
    assert "language de" in text
