from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines import folds as folding
from pipelines.cli.app import run as belfry
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.folds import REPORT, cross_validate, table_lines
from pipelines.recipe import Recipe
from pipelines.unfinished import partial_of


@pytest.fixture(scope="module")
def recipe(plain_recipe: dict[str, Any]) -> Recipe:
    changed = copy.deepcopy(plain_recipe)
    changed["training"]["epochs"] = 1
    return Recipe.model_validate(changed)


@pytest.mark.parametrize("by", ["users", "time"])
def test_every_fold_is_trained_and_judged(recipe: Recipe, dataset_folder: Path, tmp_path: Path, by: Any) -> None:
    result = cross_validate(recipe, Dataset.open(dataset_folder), tmp_path / "cv", folds=3, by=by)
    assert json.loads((tmp_path / "cv" / REPORT).read_text()) == result
    scores = [fold["test"]["auc"] for fold in result["folds"]]
    assert len(set(scores)) == 3
    auc = result["test"]["auc"]
    assert auc["mean"] == pytest.approx(np.mean(scores))
    assert auc["low"] < auc["mean"] < auc["high"]
    assert auc["mean"] > 0.7
    examples = [fold["examples"] for fold in result["folds"]]
    assert examples == sorted(examples) or by == "users"
    assert "test" in "\n".join(table_lines(result))
    assert not partial_of(tmp_path / "cv").exists()


def test_a_recipe_that_learns_by_heart_is_told(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path
) -> None:
    # Every epoch counts and nobody's id is known elsewhere: what training learned is its own part.
    by_heart = copy.deepcopy(plain_recipe)
    by_heart["features"] = {"text": None, "category": False, "language": False, "history": 2}
    by_heart["towers"] |= {"id_dropout": 0.0, "history_dropout": 0.0, "width": 64, "history_units": 64}
    by_heart["training"] |= {"epochs": 8, "learning_rate": 0.03, "weight_decay": 0.0}
    by_heart["data"] = {"split": {"validation": 0.0, "test": 0.2}}
    data = Dataset.open(dataset_folder)
    result = cross_validate(Recipe.model_validate(by_heart), data, tmp_path / "by_heart", folds=3)
    assert result["overfits"]
    assert "overfits" in "\n".join(table_lines(result))


def test_stopped_between_folds_it_goes_on(
    recipe: Recipe, dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset.open(dataset_folder)
    expected = cross_validate(recipe, data, tmp_path / "whole", folds=2)
    train_prepared, calls = folding.train_prepared, []

    def stop(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train_prepared(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(folding, "train_prepared", stop)
        with pytest.raises(KeyboardInterrupt):
            cross_validate(recipe, data, tmp_path / "cv", folds=2)
    assert cross_validate(recipe, data, tmp_path / "cv", folds=2, resume=True) == expected


def test_a_fold_with_nothing_to_be_judged_on_is_one_sentence(
    recipe: Recipe, dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding.Validation, "of", lambda *given, **named: None)
    with pytest.raises(BadInput, match="use fewer folds"):
        cross_validate(recipe, Dataset.open(dataset_folder), tmp_path / "cv", folds=2, by="users")
    assert not list(tmp_path.iterdir())


def test_the_command(dataset_folder: Path, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump()))
    given = ["train", str(file), "--data", str(dataset_folder), "--out", str(tmp_path / "cv"), "--folds", "2"]
    assert belfry([*given, "--fold-by", "place"]) == 2
    assert "--fold-by is users or time, not 'place'." in capsys.readouterr().err
    assert belfry([*given, "--mlflow", str(tmp_path / "mlflow")]) == 2
    assert "--mlflow records one run, and --folds keeps none: leave one of them out." in capsys.readouterr().err
    assert belfry([*given[:-2], "--fold-by", "users"]) == 2
    assert "--fold-by goes with --folds." in capsys.readouterr().err
    assert not (tmp_path / "cv").exists()
    assert belfry([*given, "--fold-by", "users"]) == 0
    assert "training has drawn the training part ahead" in capsys.readouterr().out
