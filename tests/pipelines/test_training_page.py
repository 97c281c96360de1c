"""The page of a training, from a real run, and from what other recipes write."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.run import FILES, METRICS, REPORT
from pipelines.training_course import overfitting
from pipelines.training_page import read_course, training_page, training_page_of


@pytest.fixture
def about(ranked_run_folder: Path) -> dict[str, Any]:
    """What the page of a real run is made of."""
    folder = ranked_run_folder
    metrics, origin = (json.loads((folder / name).read_text()) for name in (METRICS, "origin.json"))
    recipe = (folder / "recipe.yaml").read_text()
    return {"run": "a", "metrics": metrics, "origin": origin, "recipe": recipe} | {
        "history": read_course(folder / "history.csv")
    }


def fitted(scores: list[float], losses: list[float]) -> dict[str, Any]:
    best = max(range(len(scores)), key=lambda epoch: scores[epoch])
    return {"best_epoch": best, "loss": losses, "validation": {"metric": "auc", "by_epoch": scores}}


def test_a_run_folder_has_its_page_which_can_be_made_again(run_folder: Path) -> None:
    assert {path.name for path in run_folder.iterdir()} <= set(FILES)
    assert (run_folder / REPORT).read_text(encoding="utf-8") == training_page_of(run_folder, run_folder.name)


def test_the_page_shows_what_was_measured(about: dict[str, Any]) -> None:
    metrics, page = about["metrics"], training_page(about)
    best = metrics["validation"]["by_epoch"][metrics["best_epoch"]]
    assert f"{best:.4f}" in page
    assert f"<dd>{metrics['examples']:,}</dd>" in page
    assert "projection: train" in page  # the whole recipe
    assert about["origin"]["versions"]["tensorflow"] in page
    parts = metrics["data"]["parts"]
    assert sum(each["requests"] for each in parts.values()) == 500
    for name in ("train", "validation", "test"):
        assert f"<td>{name}</td>" in page
    assert metrics["weights"]["towers"] > metrics["weights"]["ranking"] > 0


@pytest.mark.parametrize(
    ("scores", "losses", "tone"),
    [
        ([0.5, 0.6, 0.7], [3.0, 2.0], "plain"),  # may go on
        ([0.5, 0.7, 0.6], [3.0, 2.0], "warning"),
        ([0.5, 0.7, 0.699], [3.0, 2.0], "good"),  # noise
        ([0.5, 0.7, 0.6], [2.0, 3.0], "good"),  # it forgets, but not for learning by heart
        ([0.6, 0.5], [3.0], "warning"),
    ],
)
def test_overfitting_is_what_validation_loses_while_the_loss_falls(
    scores: list[float], losses: list[float], tone: str
) -> None:
    assert overfitting(fitted(scores, losses))[1] == tone


def test_without_validation_nothing_is_said_of_it(about: dict[str, Any]) -> None:
    bare = copy.deepcopy(about)
    bare["metrics"] |= {"validation": None}
    bare["metrics"]["ranking"]["validation"] = None
    page = training_page(bare)
    assert "There is no validation part" in page
    assert "without a validation part" in page


def test_schedules_members_and_self_training_have_their_sections(about: dict[str, Any]) -> None:
    recipe = yaml.safe_load(about["recipe"])
    stages = [{"epoch": 1, "layers": [5]}, {"epoch": 2, "layers": [4, 3]}]
    recipe["fine_tuning"] = {"stages": stages, "learning_rate": 2e-5, "decay": 0.5}
    rounds = [{"unlabelled_requests": 7, "pseudo_labels": 5, "teacher": 0.6, "student": 0.61, "kept": "student"}]
    one = fitted([0.5, 0.6], [2.0]) | {"epochs": 1}
    about["metrics"] |= {
        "self_training": {"kept": "student", "metric": "auc", "rounds": rounds},
        "ensemble": {
            "members": ["towers", "en", "linear"],
            "specialists": {"en": one},
            "validation": {"ensemble": 0.65, "towers": 0.6, "en": 0.58, "linear": 0.55},
            "weights": [[1.0, 0.5, 0.25]],
        },
        "refit": one,
        "balance": {"upsample": {"added": 12}},
    }
    page = training_page(about | {"recipe": yaml.safe_dump(recipe)})
    for expected in ("text encoder, layers 3, 4", "5e-06 to 1e-05", "specialist of en", "Self-training", "added"):
        assert expected in page
    assert "trained again with the validation part" in page


def test_a_refit_of_no_epochs_has_no_loss_to_tell(about: dict[str, Any]) -> None:
    untrained = fitted([0.6], []) | {"epochs": 0}
    assert "Then built again with the validation part." in training_page(
        about | {"metrics": about["metrics"] | {"refit": untrained}}
    )
