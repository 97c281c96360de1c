from __future__ import annotations

import copy
import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines import fit as fitting
from pipelines import self_training as training_itself
from pipelines.data.dataset import Dataset
from pipelines.data.positives import Positives
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.held_out import hide_answers
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared, prepare
from pipelines.recipe import Recipe, SelfTraining
from pipelines.run import HISTORY, METRICS, Run
from pipelines.self_training import PseudoLabels, lost_share, pseudo_labels, unlabelled
from pipelines.training import Trained, train, train_prepared
from pipelines.unfinished import partial_of


def recipe(base: dict[str, Any], self_training: dict[str, Any] | None, **changes: Any) -> Recipe:
    values = copy.deepcopy(base)
    for section, more in changes.items():
        values.setdefault(section, {}).update(more)
    return Recipe.model_validate(values | ({"self_training": self_training} if self_training is not None else {}))


@pytest.fixture(scope="module")
def whole(dataset_folder: Path, plain_recipe: dict[str, Any]) -> Prepared:
    return prepare(Dataset.open(dataset_folder), recipe(plain_recipe, None))


@pytest.fixture(scope="module")
def data(whole: Prepared) -> Prepared:
    """Of the training requests, six in ten have lost their answer."""
    return hide_answers(whole, lost(whole))


def lost(data: Prepared) -> np.ndarray:
    drawn = np.random.default_rng(4).random(len(data.behaviour.requests)) < 0.6
    return (data.parts.requests == Part.TRAIN) & drawn


@pytest.fixture(scope="module")
def teacher(run_folder: Path, data: Prepared) -> ModelRanker:
    return ModelRanker(Run.open(run_folder).model(data.catalogue), data.window)


def labels_of(data: Prepared, teacher: ModelRanker, **settings: Any) -> PseudoLabels:
    return pseudo_labels(SelfTraining(**{"confidence": 0.3, **settings}), data, teacher)


def test_hidden_answers_are_in_no_label_and_in_no_history(whole: Prepared, data: Prepared) -> None:
    before, after = whole.behaviour, data.behaviour
    hidden = lost(whole)
    request = np.repeat(np.arange(len(hidden)), np.diff(before.requests.offsets))
    assert np.array_equal(after.requests.clicked, before.requests.clicked & ~hidden[request])
    assert np.array_equal(after.requests.item, before.requests.item)
    kept = ~hidden[before.interactions.request]
    assert np.array_equal(after.interactions.item, before.interactions.item[kept])
    assert np.array_equal(data.parts.interactions, whole.parts.interactions[kept])
    log = after.interactions
    for end, at, user in zip(after.requests.history_end, after.requests.at, after.requests.user, strict=True):
        own = slice(log.user_offsets[user], log.user_offsets[user + 1])
        assert end - own.start == (log.at[own] < at).sum()


def test_only_unanswered_requests_of_the_training_part_are_labelled(
    whole: Prepared, data: Prepared, teacher: ModelRanker
) -> None:
    found = labels_of(data, teacher, confidence=0.0, most=100.0)
    requests, log = data.behaviour.requests, data.behaviour.interactions
    rows = found.positives.request
    assert len(rows) > 100
    assert len(set(rows)) == len(rows), "one a request"
    assert (data.parts.requests[rows] == Part.TRAIN).all()
    assert not np.isin(rows, log.request).any()
    assert requests.at[rows].max() < requests.at[data.parts.requests == Part.VALIDATION].min()
    assert np.array_equal(found.positives.item, requests.item[found.place])
    assert np.array_equal(found.positives.user, requests.user[rows])
    assert np.array_equal(found.positives.history_end, requests.history_end[rows])
    assert ((requests.offsets[rows] <= found.place) & (found.place < requests.offsets[rows + 1])).all()
    assert found.requests == unlabelled(data).sum() > unlabelled(whole).sum()
    for row, item in zip(rows, found.positives.item, strict=True):
        history = log.item[log.user_offsets[requests.user[row]] : requests.history_end[row]]
        assert item not in history


@pytest.mark.parametrize("by", ["last", "users", "none"])
def test_no_history_of_a_labelled_request_holds_what_is_held_out(
    dataset_folder: Path, plain_recipe: dict[str, Any], by: str
) -> None:
    data = prepare(Dataset.open(dataset_folder), recipe(plain_recipe, None, data={"split": {"by": by}}))
    log, requests = data.behaviour.interactions, data.behaviour.requests
    chosen = np.flatnonzero(unlabelled(data))
    for row in chosen:
        assert (data.parts.interactions[log.user_offsets[requests.user[row]] : requests.history_end[row]] == 0).all()
    assert requests.at[chosen].max(initial=0) <= log.at[data.parts.interactions == Part.TRAIN].max()
    if by == "last":
        assert len(chosen) < ((data.parts.requests == 0) & ~np.isin(np.arange(len(requests)), log.request)).sum()


def test_more_confidence_means_fewer_labels_and_the_same_ones(data: Prepared, teacher: ModelRanker) -> None:
    found = [set(labels_of(data, teacher, confidence=each, most=100.0).place) for each in (0.0, 0.3, 0.6, 0.9)]
    assert all(more > fewer for more, fewer in itertools.pairwise(found))
    sure = labels_of(data, teacher, confidence=0.6, most=100.0).confidence
    assert sure.min() > 0.6
    assert (np.diff(sure) <= 0).all()


def test_the_surest_are_kept_where_there_are_too_many(data: Prepared, teacher: ModelRanker) -> None:
    every, few = (labels_of(data, teacher, most=most) for most in (100.0, 0.1))
    labelled = int((data.parts.interactions == Part.TRAIN).sum())
    assert len(few.place) == int(0.1 * labelled) < len(every.place)
    assert np.array_equal(few.place, every.place[: len(few.place)])
    assert (few.positives.weight == np.float32(0.5)).all()
    assert (labels_of(data, teacher, weight=0.25).positives.weight == np.float32(0.25)).all()


def test_the_same_teacher_gives_the_same_labels(data: Prepared, teacher: ModelRanker) -> None:
    first, again = (labels_of(data, teacher) for _ in range(2))
    assert np.array_equal(first.place, again.place)
    assert np.array_equal(first.confidence, again.confidence)


def test_sure_labels_are_true_more_often_than_chance(whole: Prepared, data: Prepared, teacher: ModelRanker) -> None:
    found = labels_of(data, teacher, confidence=0.5)
    truth = whole.behaviour.requests.clicked
    offered = np.isin(np.repeat(np.arange(len(whole.behaviour.requests)), 6), found.positives.request)
    assert truth[found.place].mean() > 1.5 * truth[offered].mean()


def test_lost_clicks_are_counted_by_what_validation_has_more(whole: Prepared, data: Prepared) -> None:
    request = np.isin(np.arange(len(whole.behaviour.requests)), whole.behaviour.interactions.request)
    gone = request[unlabelled(data)].mean()
    assert lost_share(data) == pytest.approx(gone, abs=0.1)
    assert lost_share(whole) < 0.2 < lost_share(data)
    assert lost_share(replace(data, parts=data.parts.training_on(Part.VALIDATION))) == 0.0


def student_scores(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let the validation metric of the teacher, and then of each student, be these."""
    given = iter(values)
    monkeypatch.setattr(training_itself, "_best", lambda towers: _once(towers, given))


def _once(towers: Any, given: Any) -> float:
    if not hasattr(towers.model, "judged"):
        towers.model.judged = next(given)
    return float(towers.model.judged)


def test_a_student_that_is_no_better_leaves_the_teacher_as_it_was(
    data: Prepared, plain_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"epochs": 2}
    plain = train_prepared(recipe(plain_recipe, None, training=training), data, tmp_path)
    student_scores(monkeypatch, 0.7, 0.7)
    wanted = recipe(plain_recipe, {"confidence": 0.2, "rounds": 3}, training=training)
    trained = train_prepared(wanted, data, tmp_path)
    said = trained.metrics.pop("self_training")
    assert said["kept"] == "teacher"
    assert [each["kept"] for each in said["rounds"]] == ["teacher"], "no round after one that failed"
    assert not len(trained.pseudo_labels)
    assert trained.metrics == plain.metrics
    assert same_weights(trained, plain)


def test_rounds_go_on_as_long_as_each_is_better(
    data: Prepared, plain_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student_scores(monkeypatch, 0.6, 0.7, 0.8, 0.75)
    wanted = recipe(plain_recipe, {"confidence": 0.2, "rounds": 5}, training={"epochs": 1})
    trained = train_prepared(wanted, data, tmp_path)
    said = trained.metrics["self_training"]
    assert [each["kept"] for each in said["rounds"]] == ["student", "student", "teacher"]
    assert [each["teacher"] for each in said["rounds"]] == [0.6, 0.7, 0.8]
    assert said["kept"] == "student"
    assert len(trained.pseudo_labels) == said["rounds"][1]["pseudo_labels"]


def test_a_kept_student_is_what_the_labels_train(
    data: Prepared, plain_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student_scores(monkeypatch, 0.6, 0.7)
    training = {"epochs": 2}
    trained = train_prepared(recipe(plain_recipe, {"confidence": 0.2}, training=training), data, tmp_path)
    by_hand = train_prepared(recipe(plain_recipe, None, training=training), data, tmp_path, added=trained.pseudo_labels)
    assert len(trained.pseudo_labels)
    assert same_weights(trained, by_hand)
    assert trained.metrics["examples"] == by_hand.metrics["examples"], "labels that people gave"


def same_weights(left: Trained, right: Trained) -> bool:
    pairs = zip(left.model.get_weights(), right.model.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def lossy_folder(
    dataset_folder: Path, data: Prepared, whole: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same log on disk."""
    import pandas as pd

    from pipelines.data.sources.table import import_table

    source, folder = dataset_folder.parent, tmp_path_factory.mktemp("lossy")
    events = pd.read_csv(source / "events.csv")
    gone = set(whole.behaviour.requests.ids[lost(whole)])
    events[(events["kind"] == "impression") | ~events["request_id"].isin(gone)].to_csv(
        folder / "events.csv", index=False
    )
    import_table(folder / "events.csv", folder / "data", items=source / "items.csv", users=source / "users.csv")
    return folder / "data"


WITH_ALL = {
    "towers": {"dropout": 0.3, "id_dropout": 0.3},
    "training": {"epochs": 2, "refit": True},
    "ranking": {"crosses": 1, "projection": 4, "epochs": 2, "retrieve": 20},
}


def test_a_run_stopped_in_its_student_ends_like_one_that_was_not(
    lossy_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student_scores(monkeypatch, *[0.6, 0.7] * 10)
    wanted, dataset = recipe(plain_recipe, {"confidence": 0.3}, **WITH_ALL), Dataset.open(lossy_folder)
    expected = train(wanted, dataset, tmp_path / "whole")
    assert expected["self_training"]["kept"] == "student"
    assert {"refit", "ranking"} <= set(expected)
    assert json.loads((tmp_path / "whole" / METRICS).read_text()) == expected
    with (tmp_path / "whole" / HISTORY).open() as file:
        assert {row["fit"] for row in csv.DictReader(file)} == {"towers", "student-1", "refit-towers"}
    out, left, train_epoch = tmp_path / "stopped", [3], fitting.train_epoch

    def stop(*given: Any) -> float:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return train_epoch(*given)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "train_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(wanted, dataset, out)
    assert (partial_of(out) / "checkpoints" / "student-1.npz").exists()
    assert train(wanted, dataset, out, resume=True) == expected
    runs = [Run.open(each) for each in (out, tmp_path / "whole")]
    catalogue = prepare(dataset, wanted).catalogue
    pairs = zip(*(run.model(catalogue).get_weights() for run in runs), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_where_nothing_is_sure_enough_the_teacher_is_kept_and_the_surest_told(
    data: Prepared, plain_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = recipe(plain_recipe, {"confidence": 0.999999}, training={"epochs": 1})
    trained = train_prepared(wanted, data, tmp_path)
    assert trained.metrics["self_training"]["kept"] == "teacher"
    assert trained.metrics["self_training"]["rounds"][0]["pseudo_labels"] == 0
    assert "no pseudo-label, since the surest is 0." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"examples": "interactions"}, "self_training labels what requests showed"),
        ({"split": {"by": "time", "validation": 0.0, "test": 0.2}}, "self_training needs a validation part"),
    ],
)
def test_what_cannot_be_labelled_or_judged_is_refused(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    wanted = recipe(plain_recipe, {}, data=changed)
    with pytest.raises(BadInput, match=said):
        train(wanted, Dataset.open(dataset_folder), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [{"confidence": 1.0}, {"weight": 0.0}, {"most": 0.0}, {"rounds": 0}, {"sure": 1}])
def test_settings_out_of_range_are_refused(tmp_path: Path, bad: dict[str, Any]) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"self_training": bad}))
    with pytest.raises(BadInput, match=r"self_training\." + next(iter(bad))):
        Recipe.load(tmp_path / "recipe.yaml")


def test_without_the_section_nothing_is_added(whole: Prepared, plain_recipe: dict[str, Any], tmp_path: Path) -> None:
    trained = train_prepared(recipe(plain_recipe, None, training={"epochs": 1}), whole, tmp_path)
    assert "self_training" not in trained.metrics
    assert len(trained.pseudo_labels) == len(Positives.none())
