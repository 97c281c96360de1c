"""Towers that begin with the weights of a trained run."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.build import build_model
from pipelines.data.dataset import Dataset
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.judge import Slates
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared, prepare, seen_by
from pipelines.recipe import Recipe
from pipelines.run import ORIGIN, Run
from pipelines.training import train
from pipelines.vocabulary import Vocabulary
from pipelines.warm_start import check_warm_start, warm_start


@pytest.fixture
def champion(run_folder: Path) -> Run:
    return Run.open(run_folder)


@pytest.fixture
def data(champion: Run) -> Prepared:
    return prepare(champion.training_data(), champion.recipe)


def scores(model: Any, data: Prepared) -> np.ndarray:
    slates = Slates.of(data.behaviour, data.parts.requests == Part.TEST)
    return slates.scores(ModelRanker(model, data.window))


def changed(words: Vocabulary, seed: int) -> Vocabulary:
    """The same strings in another order, among strings that nobody knows."""
    rng = np.random.default_rng(seed)
    strings = words.model_dump(exclude={"unheard"})
    content = {name: rng.permutation([*known, "new1", "new2"]).tolist() for name, known in strings.items()}
    return Vocabulary.model_validate(content | {"unheard": words.unheard})


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_it_scores_as_the_run_does_under_any_vocabulary(champion: Run, data: Prepared, seed: int | None) -> None:
    words = champion.vocabulary if seed is None else changed(champion.vocabulary, seed)
    model = build_model(champion.recipe, words, data.catalogue)
    there = champion.model(data.catalogue)
    assert np.abs(scores(model, data) - scores(there, data)).max() > 1e-3
    told = warm_start(model, words, champion, data.catalogue)
    # Histories as a run sees them that has these languages and devices.
    object.__setattr__(champion, "vocabulary", words) if seed is not None else None
    seen = seen_by(champion, champion.training_data(), data)
    np.testing.assert_allclose(scores(model, seen), scores(there, data), atol=1e-5)
    new = 0 if seed is None else 2
    assert told["rows"]["content item"] == {"kept": len(words.items) - new, "new": new}
    assert told["rows"]["behaviour device"] == {"kept": 3, "new": new}
    assert told["weights"] > 0


def test_new_strings_keep_the_row_that_they_began_with(champion: Run, data: Prepared) -> None:
    words = changed(champion.vocabulary, 1)
    model = build_model(champion.recipe, words, data.catalogue)
    before = model.content.embeddings["item"].numpy()
    before_rows = {word: before[row] for row, word in enumerate(words.items, start=1)}
    warm_start(model, words, champion, data.catalogue)
    after = model.content.embeddings["item"].numpy()
    old = champion.model(data.catalogue).content.embeddings["item"].numpy()
    for row, word in enumerate(words.items, start=1):
        known = word in champion.vocabulary.items
        wanted = old[champion.vocabulary.items.index(word) + 1] if known else before_rows[word]
        np.testing.assert_array_equal(after[row], wanted)


def test_training_begins_where_the_run_ended_and_repeats(champion: Run, dataset_folder: Path, tmp_path: Path) -> None:
    recipe = champion.recipe.changed({"training.epochs": 1})
    dataset = Dataset.open(dataset_folder)
    metrics = [train(recipe, dataset, tmp_path / name, warm_start=champion) for name in ("one", "two")]
    assert metrics[0] == metrics[1]
    best = champion.metrics["validation"]["by_epoch"][champion.metrics["best_epoch"]]
    assert metrics[0]["validation"]["by_epoch"][0] == pytest.approx(best, abs=1e-6)
    assert metrics[0]["warm_start"]["rows"]["content item"]["new"] == 0
    origin = json.loads((tmp_path / "one" / ORIGIN).read_text())
    assert origin["warm_start"] == champion.fingerprint


def test_a_run_begun_with_other_weights_is_not_gone_on_with(
    champion: Run, dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import checkpoint

    save = checkpoint.Checkpoint.save

    def stop(*given: Any) -> None:
        save(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            train(champion.recipe, Dataset.open(dataset_folder), tmp_path / "run", warm_start=champion)
    with pytest.raises(BadInput, match="begun with other weights to begin with"):
        train(champion.recipe, Dataset.open(dataset_folder), tmp_path / "run", resume=True)


def test_what_the_run_knows_stays_known_as_far_as_the_catalogue_has_it(champion: Run) -> None:
    words = champion.vocabulary
    known = words.model_copy(update={"items": [*words.items, "gone", "i47"], "devices": ["watch"]})
    data = prepare(champion.training_data(), champion.recipe, known=known)
    assert set(data.vocabulary.items) == {*words.items, "i47"}
    assert data.vocabulary.devices == [*words.devices, "watch"]
    assert data.vocabulary.items[: len(words.items)] == words.items


def recipes(small_recipe: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    for section, key, value, words in (
        ("towers", "width", 24, "towers.width"),
        ("towers", "history_encoder", "mean", "towers.history_encoder"),
        ("features", "device", False, "features.device"),
    ):
        recipe = copy.deepcopy(small_recipe)
        recipe[section][key] = value
        yield recipe, words


def test_a_recipe_of_another_kind_is_refused(champion: Run, small_recipe: dict[str, Any], tmp_path: Path) -> None:
    for values, words in recipes(small_recipe):
        with pytest.raises(BadInput, match=words):
            train(Recipe.model_validate(values), champion.training_data(), tmp_path / "run", warm_start=champion)
        assert not list(tmp_path.iterdir())
    with pytest.raises(BadInput, match="fine_tuning of the recipe must have"):
        tuned = champion.recipe.changed({"fine_tuning": {"stages": [{"epoch": 1, "layers": [0]}]}})
        check_warm_start(champion.recipe, Run(champion.folder, tuned, champion.vocabulary, champion.origin))


def test_a_tuned_encoder_and_an_ensemble_are_begun_with_too(
    champion: Run, dataset_folder: Path, tmp_path: Path
) -> None:
    dataset = Dataset.open(dataset_folder)
    recipe = champion.recipe.changed(
        {
            "training.epochs": 1,
            "fine_tuning": {"stages": [{"epoch": 1, "layers": [0]}], "learning_rate": 1e-2, "warmup_steps": 0},
            # No slice is large enough for one, which leaves an ensemble of the towers alone.
            "ensemble": {"specialists": {"by": "language", "examples": 10_000}},
        }
    )
    train(recipe, dataset, tmp_path / "first")
    run = Run.open(tmp_path / "first")
    catalogue = prepare(dataset, recipe).catalogue
    model, there = build_model(recipe, run.vocabulary, catalogue), run.model(catalogue)
    warm_start(model, run.vocabulary, run, catalogue)
    pairs = [
        (model.content, there.content.members[0]),
        (model.behaviour, there.behaviour.members[0]),
        (model.text_top, there.text_top),
    ]
    for new, old in pairs:
        for left, right in zip(new.get_weights(), old.get_weights(), strict=True):
            np.testing.assert_array_equal(left, right)
