"""What a search varies, in KerasTuner's terms and in the recipe's."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.errors import BadInput
from pipelines.recipe import Range, Recipe
from pipelines.tuning.space import Space, usual


def _space(search: dict[str, Any], **sections: Any) -> Space:
    return Space.of(Recipe.model_validate({**sections, "search": search}))


def test_the_usual_space_is_what_one_would_tune() -> None:
    tuned = {"fine_tuning": {"stages": [{"epoch": 1, "layers": [5]}]}, "training": {"learning_rate": 5e-5}}
    keys = usual(Recipe.model_validate(tuned))
    rate = keys["training.learning_rate"]
    assert isinstance(rate, Range)
    assert (rate.low, rate.high, rate.scale) == (1e-6, pytest.approx(1.5e-4), "log")
    assert keys["training.batch_size"] == [32, 64, 128]
    assert keys["towers.width"] == [128, 256, 384, 512]
    assert len(keys["towers.history_encoder"]) == 6  # type: ignore[arg-type]
    stages = keys["fine_tuning.stages"]
    assert isinstance(stages, list)
    assert [stage[0]["layers"] for stage in stages] == [[5], [4, 5], [3, 4, 5], [2, 3, 4, 5]]
    assert not any(path.startswith("fine_tuning") for path in usual(Recipe()))


def test_the_recipe_s_own_values_are_the_defaults() -> None:
    recipe = Recipe.model_validate({"fine_tuning": {"stages": [{"epoch": 1, "layers": [4, 5]}]}})
    space = Space.of(recipe)
    assert space.recipe_of(space.hyperparameters().values) == recipe


@given(st.integers(0, 10_000))
def test_every_point_of_the_usual_space_is_a_recipe(seed: int) -> None:
    space = Space.of(Recipe.model_validate({"fine_tuning": {"stages": [{"epoch": 1, "layers": [5]}]}}))
    found = space.hyperparameters()
    values = {each.name: each.random_sample(seed) for each in found.space}
    recipe = space.recipe_of(values)
    assert recipe == space.recipe.changed(space.chosen(values))
    assert 1e-6 <= recipe.training.learning_rate <= 1.5e-4 or recipe.training.learning_rate <= 3e-4


@pytest.mark.parametrize(
    ("path", "among"),
    [
        ("ranking", [None, {"epochs": 3}, {"epochs": 5, "crosses": 1}]),
        ("features.item_id", [True, False]),
        ("towers.hidden", [[], [64], [64, 32]]),
        ("features.text.fields", ["joined", "title"]),
        ("training.dwell_power", [0, 0.5]),
        ("towers.projection", ["auto", "keep"]),
    ],
)
def test_choices_may_be_any_value_of_a_recipe(path: str, among: list[Any]) -> None:
    space = _space({path: among})
    (hyperparameter,) = space.hyperparameters().space
    rng = random.Random(3)
    for _ in range(10):
        value = space.chosen({path: hyperparameter.random_sample(rng.random())})[path]
        assert value in among
        space.recipe_of({path: hyperparameter.random_sample(rng.random())})


def test_whole_numbers_stay_whole() -> None:
    space = _space({"towers.width": {"low": 64, "high": 256, "step": 64}, "features.history": {"low": 2, "high": 9}})
    for each in space.hyperparameters().space:
        values = {each.random_sample(seed) for seed in range(200)}
        assert all(type(value) is int for value in values)
        expected = {64, 128, 192, 256} if each.name == "towers.width" else set(range(2, 10))
        assert values == expected


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ({"towers.widht": [64, 128]}, "towers.widht is not in the recipe"),
        ({"ranking.l2": [0.1, 0.2]}, "ranking.l2 is not in the recipe"),
        ({"towers": {"low": 1, "high": 2}}, "towers"),
        ({"towers.width": [64, 1]}, "search.towers.width: 1 cannot be tried"),
        ({"towers.width": {"low": 1, "high": 64}}, "search.towers.width: 1 cannot be tried"),
        ({"towers.width": {"low": 64.5, "high": 128}}, "64.5 cannot be tried"),
        ({"towers.width": [64, 64]}, "holds a value twice"),
    ],
)
def test_a_space_that_cannot_be_is_refused_before_anything_runs(search: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        _space(search)


@pytest.mark.parametrize(
    ("path", "among"),
    [
        ("training.metric", ["auc", "mrr"]),
        ("training.seed", [17, 18]),
        ("training.seed", {"low": 1, "high": 9}),
        ("training", [{"epochs": 3}, {"epochs": 3, "seed": 2}]),
        ("data.positive_rating", [3.0, 4.0]),
        ("data.positive_rating", {"low": 3.0, "high": 4.0}),
        ("data.examples", ["auto", "interactions"]),
        ("data.split", [{"by": "last"}, {"by": "users"}]),
        ("data.split.by", ["time", "last"]),
        ("data.split.validation", {"low": 0.1, "high": 0.2}),
        ("data.split.test", [0.1, 0.2]),
        ("data", [{}, {"positive_rating": 3.0}]),
    ],
)
def test_what_changes_the_rows_or_the_metric_that_judge_is_not_tried(path: str, among: Any) -> None:
    with pytest.raises(BadInput, match=rf"^search\.{path}: .*what a trial is judged by.*\.$"):
        _space({path: among})


def test_what_is_learned_from_may_vary_in_the_sections_that_judge() -> None:
    _space({"data.histories": ["before", "others"]})
    _space({"training": [{"epochs": 3}, {"epochs": 3, "batch_size": 32}]})


@pytest.mark.parametrize(
    "values",
    [
        [64],
        {"low": 3, "high": 2},
        {"low": 0, "high": 1, "scale": "log"},
        {"low": 1, "high": 2, "step": 5},
        {"low": 1, "high": 2, "setp": 1},
    ],
)
def test_a_range_that_is_none_is_no_recipe(values: Any) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate({"search": {"towers.width": values}})


def test_a_changed_recipe_has_no_search_and_is_checked() -> None:
    recipe = Recipe.model_validate({"search": {"towers.width": [64, 128]}})
    assert recipe.changed({"towers.width": 64}).search == {}
    assert recipe.changed({}) == Recipe()
    with pytest.raises(BadInput, match=r"history_units must be a multiple"):
        recipe.changed({"towers.history_encoder": "transformer", "towers.history_units": 63})
