"""The second stage, trained for real on the small dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import trained
from pipelines.artefacts import read_json
from pipelines.data.dataset import Dataset
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.evaluation import evaluate
from pipelines.judge import Slates, unseen
from pipelines.prepare import Prepared, prepare
from pipelines.rankers import Queries
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.second_stage import TwoStageRanker, padding
from pipelines.trained import first_stage, second_stage, trained_ranker
from pipelines.training import train


@pytest.fixture(scope="module")
def data(ranked_run_folder: Path, dataset_folder: Path) -> Prepared:
    return prepare(Dataset.open(dataset_folder), Run.open(ranked_run_folder).recipe)


@pytest.fixture(scope="module")
def ranker(ranked_run_folder: Path, data: Prepared) -> TwoStageRanker:
    found = trained_ranker(Run.open(ranked_run_folder), data)
    assert isinstance(found, TwoStageRanker)
    return found


def some_queries(data: Prepared) -> Queries:
    requests = data.behaviour.requests
    return Queries(requests.user[::40], requests.history_end[::40], requests.at[::40])


def test_evaluation_shows_both_stages_and_the_calibration(ranked_run_folder: Path) -> None:
    result = evaluate(Run.open(ranked_run_folder))
    assert list(result["slates"]["metrics"])[:2] == ["two-stage", "two-tower"]
    found = result["calibration"]["click"]
    assert 0 < found["ece"] < 0.1
    assert found["mean_predicted"] == pytest.approx(found["mean_observed"], abs=0.06)


def test_training_is_repeatable(
    ranked_run_folder: Path, small_recipe: dict[str, Any], dataset_folder: Path, tmp_path: Path
) -> None:
    run = Run.open(ranked_run_folder)
    train(run.recipe, Dataset.open(dataset_folder), tmp_path / "again")
    assert read_json(tmp_path / "again" / "metrics.json") == run.metrics
    assert run.metrics["ranking"]["loss"][-1] < run.metrics["ranking"]["loss"][0]


def test_the_rest_of_the_catalogue_follows_what_was_retrieved(ranker: TwoStageRanker, data: Prepared) -> None:
    queries = some_queries(data)
    allowed = unseen(data.behaviour, queries, len(data.catalogue))
    both, first = ranker.catalogue(queries, allowed), ranker.inputs.first.catalogue(queries, allowed)
    changed = 0
    for row in range(len(queries)):
        order, first_order = np.argsort(-both[row], kind="stable"), np.argsort(-first[row], kind="stable")
        assert set(order[:20]) == set(first_order[:20])
        np.testing.assert_array_equal(order[20:], first_order[20:])
        changed += list(order[:20]) != list(first_order[:20])
        scores = ranker.pairs(queries, np.full(20, row), order[:20])
        np.testing.assert_allclose(scores, np.sort(scores)[::-1], atol=1e-5)
    assert changed > len(queries) / 2
    assert not np.isfinite(both[~allowed]).any()
    assert np.isfinite(both[allowed]).all()


def test_pairs_may_come_in_any_order(ranker: TwoStageRanker, data: Prepared) -> None:
    queries = some_queries(data)
    rng = np.random.default_rng(0)
    row, item = rng.integers(0, len(queries), 60), rng.integers(0, len(data.catalogue), 60)
    one_by_one = [
        ranker.pairs(queries[np.array([r])], np.array([0]), np.array([i]))[0] for r, i in zip(row, item, strict=True)
    ]
    np.testing.assert_allclose(ranker.pairs(queries, row, item), one_by_one, atol=1e-4)


def test_nothing_that_comes_later_changes_a_score(ranked_run_folder: Path, data: Prepared) -> None:
    """Popularity and histories of a request come from before it: a score is the same with the future cut off."""
    run = Run.open(ranked_run_folder)
    whole = second_stage(run, data, first_stage(run, data))
    assert whole is not None
    log, requests = data.behaviour.interactions, data.behaviour.requests
    early = requests.at < np.median(requests.at)
    slates = Slates.of(data.behaviour, early)
    popularity = whole.inputs.popularity
    limit = int(requests.at[early].max())
    for counted in (popularity.clicked, popularity.shown):
        kept = (counted.key % counted.span) + counted.low <= limit
        object.__setattr__(counted, "key", counted.key[kept])
    assert (log.at > limit).any()
    again = second_stage(run, data, first_stage(run, data))
    assert again is not None
    np.testing.assert_array_equal(slates.scores(whole), slates.scores(again))


def test_popularity_of_the_run_s_own_data_is_counted_once(ranked_run_folder: Path, data: Prepared) -> None:
    run = Run.open(ranked_run_folder)
    first = first_stage(run, data)
    read_again, known = second_stage(run, data, first), second_stage(run, data, first, own=data)
    assert read_again is not None
    assert known is not None
    one, other = read_again.inputs.popularity, known.inputs.popularity
    assert one.mean_rate == other.mean_rate
    for name in ("clicked", "shown"):
        mine, yours = getattr(one, name), getattr(other, name)
        assert (mine.low, mine.span) == (yours.low, yours.span)
        np.testing.assert_array_equal(mine.key, yours.key)


def test_evaluation_prepares_the_run_s_own_data_once_and_with_its_engine(
    ranked_run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained, "prepare", lambda *given, **named: pytest.fail("prepared again"))
    run = Run.open(ranked_run_folder)
    assert run.recipe.ranking is not None
    assert "clicks" in run.recipe.ranking.features
    evaluate(run)


def test_slates_are_needed(dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe = {**small_recipe, "data": {**small_recipe["data"], "examples": "interactions"}, "ranking": {"epochs": 1}}
    recipe["training"] = {**small_recipe["training"], "epochs": 1}
    with pytest.raises(BadInput, match="leave `ranking` out"):
        train(Recipe.model_validate(recipe), Dataset.open(dataset_folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_refit_trains_on_the_validation_part_for_as_many_epochs_as_were_best(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe = {**small_recipe, "ranking": {"epochs": 2, "crosses": 0}}
    recipe["training"] = {**small_recipe["training"], "epochs": 2, "refit": True}
    metrics = train(Recipe.model_validate(recipe), Dataset.open(dataset_folder), tmp_path / "run")
    data = prepare(Dataset.open(dataset_folder), Recipe.model_validate(recipe))
    in_slates = data.behaviour.interactions.request >= 0
    before = int(((data.parts.interactions == Part.TRAIN) & in_slates).sum())
    held = int(((data.parts.interactions == Part.VALIDATION) & in_slates).sum())
    assert metrics["examples"] == before + held
    assert len(metrics["refit"]["loss"]) == metrics["best_epoch"]
    assert len(metrics["ranking"]["loss"]) == 2
    assert evaluate(Run.open(tmp_path / "run"))["requests"] == int((data.parts.requests == Part.TEST).sum())


def test_padding_is_where_numpy_would_put_it() -> None:
    row, column, width = padding(np.array([0, 0, 2, 2, 2]), 4)
    assert (list(row), list(column), width) == ([0, 0, 2, 2, 2], [0, 1, 0, 1, 2], 3)
    assert padding(np.zeros(0, np.int64), 2)[2] == 1
