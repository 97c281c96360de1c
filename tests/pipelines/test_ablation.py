from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines.ablation import PAGE, REPORT, STEPS, WHOLE, compare, steps_of, switched_off, table_lines
from pipelines.cli.app import run as belfry
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.recipe import Recipe

BALANCE = {"head": 0.8, "weights": 0.5, "upsample": {"to": 0.6}, "synthetic": {}, "simulated": {}}
HISTORY = {"crop": 0.2, "mask": 0.2, "substitute": 0.2, "reorder": 0.3}


def recipe(base: dict[str, Any], **sections: Any) -> Recipe:
    values = copy.deepcopy(base) | sections
    values["training"]["epochs"] = 1
    return Recipe.model_validate(values)


def test_every_step_that_is_on_can_be_switched_off_alone(plain_recipe: dict[str, Any]) -> None:
    augmentation = {"history": HISTORY, "text": {}}
    sections = {"balance": BALANCE, "augmentation": augmentation, "adaptation": {}, "ranking": {}}
    sections |= {"self_training": {}}
    whole = recipe(plain_recipe, **sections, ensemble={"specialists": {"by": "language"}})
    assert steps_of(whole) == list(STEPS)
    for step in STEPS:
        left = steps_of(switched_off(whole, step))
        assert left == [each for each in STEPS if each != step]
    assert steps_of(recipe(plain_recipe)) == []
    assert steps_of(recipe(plain_recipe, adaptation={"weight": 0.0})) == []


def test_a_step_that_is_not_known_or_not_on_is_refused(plain_recipe: dict[str, Any]) -> None:
    on = recipe(plain_recipe, balance={"weights": 0.5})
    with pytest.raises(BadInput, match="no such step"):
        switched_off(on, "balance.colour")
    with pytest.raises(BadInput, match=r"it has balance\.weights"):
        switched_off(on, "ranking")


def test_the_command_shows_each_step_with_intervals(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = recipe(plain_recipe, balance=BALANCE, augmentation={"history": HISTORY, "text": {}})
    (tmp_path / "r.yaml").write_text(wanted.dump())
    out = tmp_path / "out"
    given = ["ablate", str(tmp_path / "r.yaml"), "--data", str(dataset_folder), "--out", str(out), "--seeds", "2"]
    given += ["--without", "balance.synthetic", "--without", "augmentation.history.crop"]
    assert belfry(given) == 0
    said = capsys.readouterr().out
    result = json.loads((out / REPORT).read_text())
    assert "\n".join(table_lines(result)) in said
    assert list(result["variants"]) == [WHOLE, "balance.synthetic", "augmentation.history.crop"]
    assert (result["part"], result["metric"], result["seeds"]) == ("test", "auc", 2)
    variants = result["variants"]
    assert "synthetic" in variants[WHOLE]["balance"]
    assert "synthetic" not in variants["balance.synthetic"]["balance"]
    assert "crop" not in variants["augmentation.history.crop"]["augmentation"]["history"]
    assert len({about["metrics"]["auc"]["count"] for about in variants.values()}) == 1
    for name, about in variants.items():
        assert len(about["best_epoch"]) == len(about["by_seed"]) == 2
        assert np.mean(about["by_seed"]) == pytest.approx(about["metrics"]["auc"]["mean"])
        if name != WHOLE:
            lead = about["worth"]["auc"]
            assert lead["mean"] == pytest.approx(
                variants[WHOLE]["metrics"]["auc"]["mean"] - about["metrics"]["auc"]["mean"]
            )
            assert lead["low"] <= lead["mean"] <= lead["high"]
            assert ("a gain" in result["verdict"][name]) == (lead["low"] > 0)
            assert ("a loss" in result["verdict"][name]) == (lead["high"] < 0)
    page = (out / PAGE).read_text()
    assert "balance.synthetic" in page
    assert page.count("<svg") == 1
    assert "http" not in page.replace("http-equiv", "")


def test_gains_are_of_the_step_that_a_variant_has_more(dataset_folder: Path, plain_recipe: dict[str, Any]) -> None:
    """Without a test part, on the catalogue."""
    base = copy.deepcopy(plain_recipe)
    base["data"] = {"split": {"by": "time", "validation": 0.2, "test": 0.0}, "examples": "interactions"}
    step = "augmentation.history.mask"
    variants = {"nothing": recipe(base), step: recipe(base, augmentation={"history": {"mask": 0.3}})}
    result = compare(variants, Dataset.open(dataset_folder), gains=True)
    assert (result["part"], result["metric"]) == ("validation", "ndcg@10")
    found = {name: about["metrics"]["ndcg@10"]["mean"] for name, about in result["variants"].items()}
    assert result["variants"][step]["worth"]["ndcg@10"]["mean"] == pytest.approx(found[step] - found["nothing"])
    assert "0.3 of the events" in table_lines(result)[2]


def test_nothing_to_switch_off_and_nothing_to_judge_on_are_one_sentence(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain.yaml").write_text(recipe(plain_recipe).dump())
    values = copy.deepcopy(plain_recipe) | {"balance": {"weights": 0.5}, "data": {"split": {"by": "none"}}}
    (tmp_path / "none.yaml").write_text(yaml.safe_dump(values))
    for name in ("plain", "none"):
        given = [
            "ablate",
            str(tmp_path / f"{name}.yaml"),
            "--data",
            str(dataset_folder),
            "--out",
            str(tmp_path / "out"),
        ]
        assert belfry(given) == 2
    said = capsys.readouterr().err
    assert "nothing to switch off" in said
    assert "neither a test nor a validation part" in said
    assert not (tmp_path / "out").exists()
