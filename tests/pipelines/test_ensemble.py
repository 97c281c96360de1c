"""Ensembles from the recipe to the saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.evaluation import evaluate
from pipelines.prepare import prepare
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.saved_model import export
from pipelines.trained import first_stage
from pipelines.training import train
from tests.pipelines.conftest import MakeDataset

TOPICS = ("storm harbour ferry wind", "goal league coach cup")


@pytest.fixture(scope="module")
def opposed(make_dataset: MakeDataset) -> Dataset:
    """Readers of English want more of what they have read, readers of German the other topic: no sum of what is known
    of a reader tells the two apart, only what language makes of the history. A reader's requests are of one moment."""
    rng = np.random.default_rng(4)
    items = [{"item_id": f"i{n:02}", "title": TOPICS[n % 2], "category": "ab"[n % 2]} for n in range(40)]
    users = [{"user_id": f"u{n:03}", "language": ("en", "de")[n % 2]} for n in range(200)]
    events: list[dict[str, Any]] = []
    for n in range(200):
        topic = int(rng.integers(2))
        events += [
            {
                "user_id": f"u{n:03}",
                "item_id": f"i{2 * int(rng.integers(20)) + topic:02}",
                "kind": "click",
                "at": 100 + n,
            }
            for _ in range(3)
        ]
        wanted = topic if n % 2 == 0 else 1 - topic
        for request in range(4):
            shown = rng.choice(40, 4, replace=False)
            for place, item in enumerate(shown):
                event = {"user_id": f"u{n:03}", "item_id": f"i{item:02}", "request_id": f"r{n}-{request}"}
                event |= {"at": 10_000 + n, "position": place}
                events.append(event | {"kind": "impression"})
                if rng.random() < (0.6 if item % 2 == wanted else 0.03):
                    events.append(event | {"kind": "click"})
    return make_dataset(sorted(events, key=lambda event: event["at"]), items, users)


@pytest.fixture(scope="module")
def recipe(tiny_preset: str) -> dict[str, Any]:
    return {
        "data": {"split": {"by": "time", "validation": 0.25, "test": 0.25}},
        "features": {
            "text": {"preset": tiny_preset, "max_tokens": 8},
            "item_id": False,
            "time_of_day": False,
            "history": 3,
        },
        "towers": {"width": 16, "history_units": 16, "history_encoder": "attention", "scale": 0.5}
        | {"dropout": 0.0, "history_dropout": 0.0, "projection": "train"},
        "training": {
            "epochs": 12,
            "batch_size": 32,
            "learning_rate": 2e-2,
            "in_batch_weight": 0.0,
            "patience": 6,
            "seed": 3,
        },
        "export": {"top_k": 10},
    }


@pytest.mark.usefixtures("loaded_here")
def test_specialists_know_what_one_model_for_all_does_not(
    opposed: Dataset, recipe: dict[str, Any], tmp_path: Path
) -> None:
    found = {}
    for name, ensemble in (
        ("alone", None),
        ("together", {"specialists": {"by": "language", "examples": 50}, "weights": "language"}),
    ):
        train(Recipe.model_validate({**recipe, "ensemble": ensemble}), opposed, tmp_path / name)
        found[name] = evaluate(Run.open(tmp_path / name))["slates"]["metrics"]["two-tower"]["auc"]["mean"]
    assert found["together"] > found["alone"] + 0.1
    metrics = Run.open(tmp_path / "together").metrics["ensemble"]
    assert metrics["members"] == ["towers", "de", "en"]
    weights = np.array(metrics["weights"])
    assert weights.shape == (3, 3)
    # Those of German readers go to the specialist of German, whose weight is less for the others.
    assert weights[1, 1] > 4 * weights[2, 1]
    # The check inside compares all four signatures with the Python model.
    assert export(Run.open(tmp_path / "together"), tmp_path / "model").name == "1"


@pytest.fixture(scope="module")
def linear(recipe: dict[str, Any]) -> dict[str, Any]:
    training = {"epochs": 1, "batch_size": 64, "learning_rate": 1e-2, "catalogue_weight": 1.0}
    training |= {"in_batch_weight": 0.0, "shown_weight": 0.0, "shown_negatives": 0}
    return {
        **recipe,
        "data": {"split": {"by": "random", "validation": 0.2, "test": 0.2}, "examples": "interactions"}
        | {"histories": "others"},
        "features": {**recipe["features"], "item_id": True, "history": 12},
        "training": {**training, "max_examples_per_user": 4, "hard_negatives": 5},
        "augmentation": {"history": {"mask": 0.3}},
        "ensemble": {"linear": {"rank": 8, "regularisation": [5.0, 50.0], "decay": [1.0, 0.8]}},
    }


@pytest.mark.usefixtures("loaded_here")
def test_a_linear_model_beside_the_towers_is_kept_and_served(
    opposed: Dataset, linear: dict[str, Any], tmp_path: Path
) -> None:
    recipe = Recipe.model_validate({**linear, "training": {**linear["training"], "refit": True}})
    train(recipe, opposed, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    told = run.metrics["ensemble"]
    assert told["members"] == ["towers", "linear"]
    assert told["linear"]["regularisation"] in (5.0, 50.0)
    data = prepare(opposed, recipe)
    once, again = (first_stage(Run.open(tmp_path / "run"), data).items for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.shape[1] == 16 + 8 + 1
    assert np.abs(once[:, 16:]).max() > 0
    assert export(run, tmp_path / "model").name == "1"


def test_the_same_seed_gives_the_same_ensemble(opposed: Dataset, linear: dict[str, Any], tmp_path: Path) -> None:
    one, other = (train(Recipe.model_validate(linear), opposed, tmp_path / name) for name in ("a", "b"))
    assert one == other


def test_a_linear_model_of_slates_is_refused(opposed: Dataset, linear: dict[str, Any], tmp_path: Path) -> None:
    slates = {**linear, "data": {"split": {"by": "time"}}}
    with pytest.raises(BadInput, match="learns from interactions, not slates"):
        train(Recipe.model_validate(slates), opposed, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ensemble": {}}, "name linear, specialists or both"),
        ({"ensemble": {"linear": {}}, "ranking": {}}, "leave ranking out"),
        ({"ensemble": {"specialists": {"by": "device"}}, "features": {"device": False}}, "needs features.device"),
    ],
)
def test_an_ensemble_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate(change)
