"""Splits whose test is new users, new items, a new language, or a fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.data.dataset import Dataset
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.prepare import Prepared, prepare
from pipelines.recipe import Recipe, Split


def prepared(dataset_folder: Path, small_recipe: dict[str, Any], examples: str = "auto", **split: Any) -> Prepared:
    recipe = {**small_recipe, "data": {"examples": examples, "split": split}}
    return prepare(Dataset.open(dataset_folder), Recipe.model_validate(recipe))


BOTH = pytest.mark.parametrize("examples", ["impressions", "interactions"])


@BOTH
def test_new_users_are_in_one_part_alone(dataset_folder: Path, small_recipe: dict[str, Any], examples: str) -> None:
    data = prepared(dataset_folder, small_recipe, examples, by="users", test=0.2, validation=0.1)
    log, requests = data.behaviour.interactions, data.behaviour.requests
    for user in range(len(log.user_ids)):
        mine = {*data.parts.interactions[log.user == user], *data.parts.requests[requests.user == user]}
        assert len(mine) == 1
    tested = np.unique(requests.user[data.parts.requests == Part.TEST])
    assert len(tested) == round(0.2 * len(log.user_ids))


@BOTH
@pytest.mark.parametrize("by", ["users", "time"])
def test_every_fold_tests_something_else(
    dataset_folder: Path, small_recipe: dict[str, Any], examples: str, by: str
) -> None:
    folds = [
        prepared(dataset_folder, small_recipe, examples, by=by, folds=3, fold=fold, validation=0.1) for fold in range(3)
    ]
    unit = "requests" if examples == "impressions" else "interactions"
    tested = np.stack([getattr(fold.parts, unit) == Part.TEST for fold in folds])
    assert (tested.sum(axis=0) <= 1).all()
    assert tested.any(axis=1).all()
    if by == "users":
        assert (tested.sum(axis=0) == 1).all()
        return
    for fold in folds:
        log = fold.behaviour.interactions
        at = {part: log.at[fold.parts.interactions == part] for part in Part}
        assert at[Part.TRAIN].max() < at[Part.VALIDATION].min()
        assert at[Part.VALIDATION].max() < at[Part.TEST].min()
        assert not len(at[Part.UNUSED]) or at[Part.TEST].max() < at[Part.UNUSED].min()
    trained = [(fold.parts.interactions < Part.TEST).sum() for fold in folds]
    assert trained == sorted(trained)
    assert not (folds[-1].parts.requests == Part.UNUSED).any()


def test_nothing_of_a_new_item_is_known_before_the_test(dataset_folder: Path, small_recipe: dict[str, Any]) -> None:
    data = prepared(dataset_folder, small_recipe, "interactions", by="items", test=0.25, validation=0.1)
    log, part = data.behaviour.interactions, data.parts.interactions
    items = {each: set(log.item[part == each]) for each in (Part.TRAIN, Part.VALIDATION, Part.TEST)}
    assert len(items[Part.TEST]) == 12
    assert not items[Part.TRAIN] & items[Part.TEST]
    assert not items[Part.TRAIN] & items[Part.VALIDATION]
    for place in range(len(log)):
        history = slice(log.user_offsets[log.user[place]], log.history_end[place])
        assert (part[history] == Part.TRAIN).all()
        assert (log.at[history] <= log.at[place]).all()
    hidden = {data.catalogue.ids[item - 1] for item in items[Part.TEST]}
    assert not hidden & set(data.vocabulary.items)


@pytest.mark.parametrize("split", [{"by": "items"}, {"by": "language", "language": "de"}])
def test_slates_before_the_test_do_not_show_what_is_held(
    dataset_folder: Path, small_recipe: dict[str, Any], split: dict[str, Any]
) -> None:
    data = prepared(dataset_folder, small_recipe, "impressions", **split, test=0.3, validation=0.1)
    requests, log = data.behaviour.requests, data.behaviour.interactions
    request = np.repeat(np.arange(len(requests)), np.diff(requests.offsets))
    part = data.parts.requests[request]
    before, tested = (set(requests.item[chosen]) for chosen in (part < Part.TEST, part == Part.TEST))
    held = tested - before
    assert held
    if "language" in split:
        assert {data.catalogue.language[item - 1] for item in held} == {"de"}
        assert {data.catalogue.language[item - 1] for item in before} == {"en"}
    assert not set(log.item[data.parts.interactions < Part.TEST]) & held


def test_a_language_that_is_not_there_is_one_sentence(dataset_folder: Path, small_recipe: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="no item has the language 'xx'"):
        prepared(dataset_folder, small_recipe, by="language", language="xx")


@pytest.mark.parametrize(
    "rule",
    [{"by": "language"}, {"language": "de"}, {"by": "last", "folds": 3}, {"folds": 3, "fold": 3}, {"fold": 1}],
)
def test_rules_that_say_nothing_are_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Split.model_validate(rule)
