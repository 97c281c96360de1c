"""Experiments that end: what the store and the registry say then, and the commands."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import yaml

from pipelines.cli.app import run as belfry
from pipelines.errors import BadInput
from pipelines.experiments import conclude, conclude_all
from pipelines.registry import Registry
from serving.events import Store, StoreAway
from serving.events.tables import EVENTS, SLATES
from serving.experiments.declaration import Experiment
from serving.experiments.exposures import label_of
from serving.experiments.records import read_experiment, start_experiment, stop_experiment

START, HOUR = 10**12, 3_600 * 10**6


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    for version in (1, 2):
        folder = tmp_path / "models" / "feed" / str(version)
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").touch()
    found = Registry(tmp_path / "models")
    found.add("feed", 1, "first")
    found.promote("feed", 1, "first")
    found.add("feed", 2, "trained anew")
    found.try_out("feed", 2, "on trial")
    return found


def declared(name: str = "e", **more: Any) -> Experiment:
    variants = {"old": {"share": 0.5}, "new": {"share": 0.5, "treatment": {"label": "canary"}}}
    content = {
        "name": name,
        "control": "old",
        "variants": variants,
        "planned_users": 1_000,
        "before_hours": 0,
        "on_win": "promote",
    }
    return Experiment.read(content | more)


VERSIONS = {"old": 1, "new": 2}


def play(
    store: Store,
    rates: dict[str, float],
    name: str = "e",
    users: int = 600,
    versions: dict[str, int] = VERSIONS,
    **more: Any,
) -> None:
    rng = np.random.default_rng(0)
    slates, events = [], []
    for number in range(users):
        variant = declared(name, **more).split.variant(f"u{number}") or ""
        items = [[f"i{place}", 0.0, place, 1.0, ""] for place in range(5)]
        slates.append(
            {
                "request_id": f"{name}{number}",
                "user_id": f"u{number}",
                "at": START + 1,
                "placement": "home",
                "version": versions[variant],
                "variant": label_of(name, variant),
                "items": orjson.dumps(items).decode(),
            }
        )
        events += [
            {
                "event_id": f"{name}{number}/{item}",
                "user_id": f"u{number}",
                "item_id": item,
                "kind": "click",
                "at": START + 2,
                "request_id": f"{name}{number}",
            }
            for item, *_ in items
            if rng.random() < rates[variant]
        ]
    with store.writing() as connection:
        connection.execute(SLATES.insert(), slates)
        connection.execute(EVENTS.insert(), events)


def test_a_winner_is_promoted(store: Store, registry: Registry) -> None:
    start_experiment(store, declared(), START)
    play(store, {"old": 0.1, "new": 0.2})
    found = conclude(store, "e", START + HOUR, registry, "feed")
    assert (found.ended, found.version, found.look.verdict) == (True, 2, "won")
    assert registry.model("feed").served == {"champion": 2, "before": 1}
    ended = read_experiment(store, "e")
    assert (ended.state, ended.verdict) == ("stopped", "won")
    assert ended.why is not None
    assert "Version 2 was promoted" in ended.why
    assert "experiment e" in registry.model("feed").history[-1].why
    with pytest.raises(BadInput, match="is over"):
        conclude(store, "e", START + HOUR, registry, "feed")


def test_a_loser_is_retired(store: Store, registry: Registry) -> None:
    start_experiment(store, declared(), START)
    play(store, {"old": 0.2, "new": 0.05})
    found = conclude(store, "e", START + HOUR, registry, "feed")
    assert (found.ended, found.version, found.look.verdict) == (True, 2, "lost")
    assert registry.model("feed").served == {"champion": 1}
    assert registry.model("feed").states[2] == "retired"


def test_what_is_undecided_goes_on(store: Store, registry: Registry) -> None:
    start_experiment(store, declared(), START)
    play(store, {"old": 0.1, "new": 0.1})
    (found,) = conclude_all(store, START + HOUR, registry, "feed")
    assert (found.ended, found.version) == (False, None)
    assert read_experiment(store, "e").is_running
    assert registry.model("feed").served == {"champion": 1, "canary": 2}


def test_what_is_no_worse_may_be_promoted_for_being_newer(store: Store, registry: Registry) -> None:
    start_experiment(store, declared(on_undecided="promote", longest_hours=24), START)
    play(store, {"old": 0.1, "new": 0.1})
    assert not conclude(store, "e", START + HOUR, registry, "feed").ended
    found = conclude(store, "e", START + 24 * HOUR, registry, "feed")
    assert (found.ended, found.version, found.look.verdict) == (True, 2, "undecided")
    assert registry.model("feed").served == {"champion": 2, "before": 1}


def test_who_was_killed_between_promotion_and_end_only_ends_it(store: Store, registry: Registry) -> None:
    start_experiment(store, declared(), START)
    play(store, {"old": 0.1, "new": 0.2})
    registry.promote("feed", 2, "by who was killed")
    changes = len(registry.model("feed").history)
    found = conclude(store, "e", START + HOUR, registry, "feed")
    assert (found.ended, found.version) == (True, None)
    assert len(registry.model("feed").history) == changes
    assert not read_experiment(store, "e").is_running


@pytest.mark.parametrize(("new", "verdict"), [(0.2, "won"), (0.02, "lost")])
def test_a_version_that_nobody_tried_is_neither_promoted_nor_retired(
    store: Store, registry: Registry, new: float, verdict: str
) -> None:
    start_experiment(store, declared(), START)
    play(store, {"old": 0.1, "new": new})
    registry.retire("feed", 2, "by hand")
    another(registry, 3)
    registry.try_out("feed", 3, "in its place")
    found = conclude(store, "e", START + HOUR, registry, "feed")
    assert (found.ended, found.version, found.look.verdict) == (True, None, verdict)
    assert registry.model("feed").served == {"champion": 1, "canary": 3}
    if verdict == "won":
        assert "canary is version 3, and new was answered by version 2" in found.done


def test_a_label_that_moved_a_little_late_is_no_hindrance(store: Store, registry: Registry) -> None:
    start_experiment(store, declared(), START)
    play(store, {"old": 0.1, "new": 0.2})
    with store.writing() as connection:
        late = [each for each in ("e3", "e5", "e11") if declared().split.variant(f"u{each[1:]}") == "new"]
        assert late
        connection.execute(SLATES.update().where(SLATES.c.request_id.in_(late)).values(version=1))
    assert conclude(store, "e", START + HOUR, registry, "feed").version == 2


def test_a_winner_that_cannot_be_promoted_any_more_ends_it_all_the_same(store: Store, registry: Registry) -> None:
    variants = {"old": {"share": 0.5}, "new": {"share": 0.5, "treatment": {"label": "mine"}}}
    registry.pin("feed", "mine", 2, "for a trial")
    start_experiment(store, declared(variants=variants), START)
    play(store, {"old": 0.1, "new": 0.2})
    registry.retire("feed", 2, "by hand")
    found = conclude(store, "e", START + HOUR, registry, "feed")
    assert (found.ended, found.version) == (True, None)
    assert "no version on trial" in found.done
    assert registry.model("feed").holder("champion") == 1


def test_of_two_on_trial_the_one_that_does_not_win_is_retired(store: Store, registry: Registry) -> None:
    another(registry, 3)
    registry.pin("feed", "other", 3, "for a trial")
    variants = {
        "old": {"share": 0.4},
        "new": {"share": 0.3, "treatment": {"label": "canary"}},
        "third": {"share": 0.3, "treatment": {"label": "other"}},
    }
    start_experiment(store, declared(variants=variants), START)
    play(store, {"old": 0.1, "new": 0.1, "third": 0.3}, variants=variants, versions=VERSIONS | {"third": 3})
    found = conclude(store, "e", START + HOUR, registry, "feed")
    assert (found.version, found.look.winner) == (3, "third")
    assert registry.model("feed").holder("champion") == 3
    assert registry.model("feed").states[2] == "retired"


def test_a_model_that_the_registry_does_not_have_ends_nothing(store: Store, registry: Registry) -> None:
    start_experiment(store, declared(), START)
    play(store, {"old": 0.1, "new": 0.2})
    with pytest.raises(BadInput, match="has no fed"):
        conclude(store, "e", START + HOUR, registry, "fed")
    assert read_experiment(store, "e").is_running


def test_one_that_cannot_be_concluded_does_not_keep_the_others(store: Store) -> None:
    start_experiment(store, declared("a", end=0.5), START)
    start_experiment(store, declared("b", start=0.5, on_win="stop", longest_hours=1), START)
    with pytest.raises(BadInput, match="folder of models"):
        conclude_all(store, START + 2 * HOUR)
    assert [read_experiment(store, name).is_running for name in "ab"] == [True, False]


def another(registry: Registry, version: int) -> None:
    folder = registry.folder / "feed" / str(version)
    folder.mkdir()
    (folder / "saved_model.pb").touch()
    registry.add("feed", version, "trained anew")


def test_a_promotion_needs_a_registry(store: Store) -> None:
    start_experiment(store, declared(), START)
    with pytest.raises(BadInput, match="folder of models"):
        conclude(store, "e", START + HOUR)
    assert read_experiment(store, "e").is_running


def test_a_bandit_divides_the_next_users(store: Store) -> None:
    start_experiment(store, declared(method="thompson", on_win="stop", planned_users=10_000), START)
    play(store, {"old": 0.1, "new": 0.2})
    found = conclude(store, "e", START + HOUR)
    assert not found.ended
    shares = read_experiment(store, "e").experiment.split.shares
    assert shares["new"] > 0.8
    assert "divided" in found.done


def test_the_commands(store: Store, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, where = tmp_path / "e.yaml", str(tmp_path / "store")
    file.write_text(yaml.safe_dump(declared(ramp=0.5).model_dump(mode="json")))
    assert belfry(["experiment", "start", str(file), "--store", where]) == 0
    assert "e runs: new 50%, old 50%" in capsys.readouterr().out
    assert belfry(["experiment", "start", str(file), "--store", where]) == 2
    assert "Choose another name" in capsys.readouterr().err
    assert belfry(["experiment", "ramp", "e", "0.8", "--store", where]) == 0
    assert belfry(["experiment", "ramp", "e", "0.4", "--store", where]) == 2
    models = ["--models", str(registry.folder), "--model", "feed"]
    assert belfry(["experiment", "look", "--store", where, *models, "--watch", "0"]) == 0
    assert "has 0 users of 100" in capsys.readouterr().out
    assert belfry(["experiment", "look", "e", "--store", where]) == 2
    assert belfry(["experiment", "stop", "e", "--store", where, "--why", "enough"]) == 0
    assert belfry(["experiment", "stop", "none", "--store", where]) == 2
    capsys.readouterr()
    assert belfry(["experiment", "show", "e", "--store", where, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["why"], shown["experiment"]["ramp"]) == ("stopped", "enough", 0.8)
    assert len(shown["looks"]) == 1
    assert belfry(["experiment", "list", "--store", where]) == 0
    assert "e: stopped" in capsys.readouterr().out
    assert belfry(["experiment", "list", "--store", str(tmp_path / "nowhere")]) == 2


def test_a_watch_outlives_a_store_that_is_away(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start_experiment(store, declared(on_win="stop", longest_hours=1), START)
    asked: list[int] = []

    def away_at_first(*arguments: Any) -> Any:
        asked.append(1)
        if len(asked) == 1:
            raise StoreAway("The store is away.")
        return conclude_all(*arguments)

    monkeypatch.setattr("pipelines.experiments.conclude_all", away_at_first)
    watching = ["experiment", "look", "--store", str(tmp_path / "store"), "--watch", "0.01"]
    assert belfry(watching) == 0
    assert "e: undecided" in capsys.readouterr().out
    assert not read_experiment(store, "e").is_running


def test_a_watch_of_one_that_somebody_ends_is_over(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_experiment(store, declared(on_win="stop", longest_hours=1e9), START)
    somebody = threading.Timer(0.5, stop_experiment, (store, "e", START + 1, "by hand"))
    somebody.start()
    watching = ["experiment", "look", "e", "--store", str(tmp_path / "store"), "--watch", "0.1"]
    assert belfry(watching) == 0
    somebody.join()
    assert "no experiment runs" in capsys.readouterr().out


def test_who_stops_a_trial_is_told_what_is_still_served(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_experiment(store, declared(), START)
    assert belfry(["experiment", "stop", "e", "--store", str(tmp_path / "store")]) == 0
    assert "canary is still served" in capsys.readouterr().out
