"""The whole of a retraining: from a store to a candidate, killed between any two steps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines import checkpoint
from pipelines.artefacts import read_json
from pipelines.cli.app import run as belfry
from pipelines.errors import BadInput, Busy
from pipelines.evaluation import evaluate
from pipelines.registry import CONFIG, REGISTRY, Registry
from pipelines.retraining import Retrained, retrain, steps
from pipelines.retraining.champion import champion_of, champion_version, manifest_of
from pipelines.retraining.journal import JOURNAL, RETRAININGS, alone
from pipelines.run import Run
from pipelines.saved_model import versions
from pipelines.store_filling import fill_store


class Killed(BaseException):
    """As a kill would, but in this process."""


def after(patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Let a step happen, and be killed before anything else does."""
    step = getattr(owner, name)

    def stop(*given: Any, **named: Any) -> None:
        step(*given, **named)
        raise Killed

    patch.setattr(owner, name, stop)


@pytest.fixture(scope="session")
def store(begun: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pipelines.data.dataset import Dataset

    folder = tmp_path_factory.mktemp("store") / "store"
    fill_store(Dataset.open(begun.data), folder)
    return folder


Done = tuple[Retrained, Path, Path]


@pytest.fixture(scope="session")
def done(begun: Any, store: Path, copied: Callable[[], Path]) -> Done:
    """A retraining that nobody has disturbed, its models and its work."""
    models = copied()
    work = models.parent / "work"
    given = {"now": begun.now, "store": store, "recipe": begun.recipe, "run": begun.run, "why": "Tuesday"}
    return retrain(models, "news", work, **given), models, work


def test_what_beats_the_champion_becomes_a_candidate(done: Done) -> None:
    result, models, work = done
    assert result.accepted
    assert (result.version, result.champion) == (2, 1)
    model = Registry(models).model("news")
    assert model.states == {1: "champion", 2: "candidate"}
    assert model.served == {"champion": 1}
    assert model.history[-1].why == f"Tuesday; retrained from version 1: {result.verdict.why}"
    assert not (work / JOURNAL).exists()
    report = json.loads(result.report.read_text())
    assert report["gate"] == result.verdict.model_dump()
    assert (report["accepted"], report["version"], report["why"]) == (True, 2, "Tuesday")
    assert (work / "runs" / "2").resolve() == result.run.resolve()
    assert manifest_of(models / "news" / "2")["run"] == str(result.run)
    assert "version 2 is a candidate" in result.lines()[-1]
    # The next one begins with this run, once it is the champion.
    assert champion_of(models, "news", work, 2).run.folder == result.run


def test_it_was_judged_on_what_it_had_not_seen_and_then_trained_on_all(done: Done) -> None:
    result, _, _ = done
    run = Run.open(result.run)
    assert result.training["refit"]["epochs"] == result.training["best_epoch"] > 0
    fresh, replayed = result.recent.examples["fresh"], result.recent.examples["replayed"]
    assert fresh > 0 < replayed
    moments = run.recipe.data.split.moments
    assert moments is not None
    assert (moments.since, moments.validation, moments.test) == (result.recent.moments.since, None, None)
    assert result.training["warm_start"]["weights"] > 0
    # What it was trained on judges nothing.
    with pytest.raises(BadInput, match="nothing to judge on"):
        evaluate(run)


def test_killed_between_any_two_steps_it_comes_to_the_same(
    begun: Any, store: Path, done: Done, copied: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = copied()
    work = models.parent / "work"
    before = (models / "news" / "1" / "saved_model.pb").read_bytes()
    kills: list[tuple[Any, str]] = [
        (steps, "champion_version"),
        (steps, "write_recent"),
        (checkpoint.Checkpoint, "save"),
        (steps, "gate"),
        (steps, "train"),
        (steps, "export"),
        (Registry, "add"),
    ]
    for number, (owner, name) in enumerate(kills):
        # Once it is begun, it goes on with what it was begun with.
        now = begun.now + timedelta(days=max(0, number - 1))
        given = {"now": now, "store": store, "recipe": begun.recipe, "run": begun.run}
        with monkeypatch.context() as patch:
            after(patch, owner, name)
            with pytest.raises(Killed):
                retrain(models, "news", work, why=f"trigger {number}", **given)
        model = Registry(models).model("news")
        # The first kill comes after the newest version has become the champion.
        assert model.served == {"champion": 1}
    result = retrain(models, "news", work, now=begun.now, store=store)
    expected = done[0]
    assert versions(models / "news") == [1, 2]
    assert Registry(models).model("news").states == {1: "champion", 2: "candidate"}
    assert result.verdict == expected.verdict
    assert result.recent == expected.recent
    assert result.training == expected.training
    assert read_json(result.report)["why"] == "trigger 1"
    assert (models / "news" / "1" / "saved_model.pb").read_bytes() == before


def test_what_the_gate_refuses_changes_nothing(begun: Any, fresh_models: Path, tmp_path: Path) -> None:
    Registry(fresh_models).add("news", 1, "first")
    Registry(fresh_models).promote("news", 1, "first")
    before = [(fresh_models / name).read_bytes() for name in (REGISTRY, CONFIG)]
    # Without a validation part, the last epoch is kept, whatever it is worth.
    ruined = {"training.learning_rate": 3.0, "training.epochs": 1, "retraining.validation": 0.0}
    result = retrain(
        *(fresh_models, "news", tmp_path / "work"),
        now=begun.now,
        data=begun.data,
        recipe=begun.recipe.changed(ruined),
    )
    assert not result.accepted
    assert result.version is None
    assert result.verdict.lead.low < -0.02
    assert result.training["validation"] is None
    assert [(fresh_models / name).read_bytes() for name in (REGISTRY, CONFIG)] == before
    assert versions(fresh_models / "news") == [1]
    assert json.loads(result.report.read_text())["accepted"] is False
    assert "refused: the registry is as it was" in result.lines()[-1]
    assert not (tmp_path / "work" / JOURNAL).exists()
    # The run is kept to be looked at, and still has its test.
    assert "slates" in evaluate(Run.open(result.run))


def test_two_at_once_make_one(
    begun: Any, fresh_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    with alone(work):
        with pytest.raises(Busy, match="another retraining is running"):
            retrain(fresh_models, "news", work, now=begun.now, data=begun.data)
        command = ["retrain", "--models", str(fresh_models), "--model", "news", "--work", str(work)]
        assert belfry([*command, "--data", str(begun.data)]) == 3
        assert "another retraining is running" in capsys.readouterr().err
    assert not (fresh_models / REGISTRY).exists()
    assert not (work / RETRAININGS).exists()


def test_another_champion_on_the_way_is_begun_with_anew(
    begun: Any, fresh_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, given = tmp_path / "work", {"now": begun.now, "data": begun.data, "recipe": begun.recipe}
    with monkeypatch.context() as patch:
        after(patch, steps, "write_recent")
        with pytest.raises(Killed):
            retrain(fresh_models, "news", work, **given)
    shutil.copytree(fresh_models / "news" / "1", fresh_models / "news" / "2")
    registry = Registry(fresh_models)
    registry.add("news", 2, "by hand")
    registry.promote("news", 2, "by hand")
    with monkeypatch.context() as patch:
        after(patch, steps, "write_recent")
        with pytest.raises(Killed):
            retrain(fresh_models, "news", work, **given)
    assert read_json(work / JOURNAL)["champion"] == 2
    assert len(list((work / RETRAININGS).iterdir())) == 2


def test_bad_input_is_one_sentence(
    begun: Any, fresh_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    given: dict[str, Any] = {"now": begun.now, "data": begun.data}

    def refused(words: str, models: Path = fresh_models, name: str = "news", **changed: Any) -> None:
        with pytest.raises(BadInput, match=words):
            retrain(models, name, work, **{**given, **changed})
        assert not (work / JOURNAL).exists()

    refused("a store, or a dataset", data=None)
    refused("is not a folder of models", tmp_path / "nowhere")
    (fresh_models / "empty").mkdir()
    refused("has no version to begin with", name="empty")
    refused("towers.width of the recipe is not that", recipe=begun.recipe.changed({"towers.width": 24}))
    refused("nothing later than what the champion was trained on", now=begun.now - timedelta(days=2))
    with monkeypatch.context() as patch:
        after(patch, steps, "write_recent")
        with pytest.raises(Killed):
            retrain(fresh_models, "news", work, **given)
    with pytest.raises(BadInput, match="unfinished retraining of news"):
        retrain(fresh_models, "mail", work, **given)
    command = ["retrain", "--models", str(fresh_models), "--model", "mail", "--work", str(work)]
    assert belfry([*command, "--data", str(begun.data)]) == 2
    assert "drop it with --anew" in capsys.readouterr().err
    refused("nothing later", now=begun.now - timedelta(days=2), anew=True)


def test_the_champions_run_is_the_one_whose_weights_were_exported(
    begun: Any, fresh_models: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(begun.run, tmp_path / "other"))
    (other / "model.weights.h5").write_bytes(b"others")
    for given in (None, other, tmp_path / "gone"):
        assert champion_of(fresh_models, "news", tmp_path / "work", 1, given).run.folder == begun.run.resolve()
    manifest = fresh_models / "news" / "1" / "assets.extra" / "manifest.json"
    content = json.loads(manifest.read_text())
    # As after the machine was tidied up, and in versions of an older Belfry.
    for changed in ({**content, "run": str(tmp_path / "gone")}, {key: content[key] for key in content if key != "run"}):
        manifest.write_text(json.dumps(changed))
        with pytest.raises(BadInput, match=r"is not at .* name it with --run"):
            champion_of(fresh_models, "news", tmp_path / "work", 1)
        with pytest.raises(BadInput, match="whose weights are others"):
            champion_of(fresh_models, "news", tmp_path / "work", 1, other)
        assert champion_of(fresh_models, "news", tmp_path / "work", 1, begun.run).run.folder == begun.run.resolve()
    assert champion_version(fresh_models, "news") == 1
    assert Registry(fresh_models).model("news").states == {1: "champion"}


def test_a_champion_is_named_where_there_is_none(fresh_models: Path) -> None:
    registry = Registry(fresh_models)
    registry.add("news", 1, "first")
    # A kill came between adding and promoting.
    assert champion_version(fresh_models, "news") == 1
    registry.pin("news", "frozen", 1, "holdout")
    shutil.copytree(fresh_models / "news" / "1", fresh_models / "mail" / "1")
    shutil.copytree(fresh_models / "news" / "1", fresh_models / "mail" / "2")
    registry.add("mail", 1, "first")
    registry.retire("mail", 1, "worse")
    with pytest.raises(BadInput, match="mail has no champion"):
        champion_version(fresh_models, "mail")
