"""Experiments in both kinds of store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.events import Store
from serving.experiments.declaration import BadExperiment, Experiment, NoExperiment
from serving.experiments.records import (
    add_look,
    change_experiment,
    list_experiments,
    list_looks,
    read_experiment,
    start_experiment,
    stop_experiment,
)

VARIANTS = {"a": {"share": 0.5}, "b": {"share": 0.5, "treatment": {"label": "canary"}}}


def declared(name: str = "e", ramp: float = 0.2, layer: str = "default") -> Experiment:
    return Experiment.read({"name": name, "variants": VARIANTS, "control": "a", "ramp": ramp, "layer": layer})


@pytest.fixture
def store(where: Path | str) -> Iterator[Store]:
    with Store(where) as opened:
        yield opened


def test_an_experiment_from_its_start_to_its_end(store: Store) -> None:
    before = store.counters()["experiments"]
    start_experiment(store, declared(), 1_000)
    assert [each.experiment for each in list_experiments(store, running=True)] == [declared()]
    assert change_experiment(store, "e", ramp=0.5).ramp == 0.5
    assert read_experiment(store, "e").experiment.ramp == 0.5
    assert stop_experiment(store, "e", 2_000, "enough")
    assert not stop_experiment(store, "e", 3_000, "again")
    found = read_experiment(store, "e")
    assert (found.state, found.started_at, found.stopped_at, found.why) == ("stopped", 1_000, 2_000, "enough")
    assert list_experiments(store, running=True) == []
    assert store.counters()["experiments"] > before


def test_what_cannot_be_changes_nothing(store: Store) -> None:
    start_experiment(store, declared(), 1)
    with pytest.raises(BadExperiment, match="before"):
        start_experiment(store, declared(), 2)
    with pytest.raises(BadExperiment, match="share users"):
        start_experiment(store, declared("other"), 2)
    with pytest.raises(BadExperiment, match="only grows"):
        change_experiment(store, "e", ramp=0.1)
    with pytest.raises(NoExperiment):
        stop_experiment(store, "nothing", 2, "why")
    with pytest.raises(NoExperiment):
        read_experiment(store, "nothing")
    stop_experiment(store, "e", 2, "over")
    with pytest.raises(BadExperiment, match="over"):
        change_experiment(store, "e", ramp=1.0)
    with pytest.raises(BadExperiment, match="Choose another name"):
        start_experiment(store, declared(), 3)
    assert [each.experiment.name for each in list_experiments(store)] == ["e"]


def test_of_two_that_start_at_once_one_is_refused(store: Store) -> None:
    def attempt(name: str) -> bool:
        try:
            start_experiment(store, declared(name), 1)
        except BadExperiment:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(attempt, ["a", "b", "c", "d"])) == 1
    assert len(list_experiments(store, running=True)) == 1


def test_looks_are_kept_in_order_and_once(store: Store) -> None:
    for at in (3, 1, 3):
        add_look(store, "e", at, {"at": at})
    assert list_looks(store, "e") == [(1, {"at": 1}), (3, {"at": 3})]
