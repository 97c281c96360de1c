"""Proposals: bounded, seeded, and brought back by their log."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import BadInput
from pipelines.recipe import Recipe
from pipelines.tuning.oracle import ALGORITHMS, Algorithm, Oracle, Proposal
from pipelines.tuning.space import Space

SPACE = Space.of(
    Recipe.model_validate(
        {
            "search": {
                "training.learning_rate": {"low": 1e-6, "high": 1e-4, "scale": "log"},
                "towers.width": [64, 128, 256],
                "towers.history_encoder": ["gru", "mean"],
            }
        }
    )
)
SMALL = Space.of(Recipe.model_validate({"search": {"towers.width": [64, 128], "features.history": [5, 10, 15]}}))


# Where every question is a second of Gaussian processes, a few of them.
MOST: dict[Algorithm, int] = {"random": 9, "grid": 9, "bayesian": 4, "hyperband": 9}
QUICK = [name for name in ALGORITHMS if name != "bayesian"]


def _oracle(
    algorithm: Algorithm, folder: Path, *, space: Space = SPACE, trials: int | None = None, seed: int = 0
) -> Oracle:
    trials = trials or MOST[algorithm]
    return Oracle(algorithm, space, trials=trials, epochs=9, seed=seed, folder=str(folder))


def _score(values: dict[str, Any]) -> float:
    own = {name: value for name, value in values.items() if not name.startswith("tuner/")}
    return zlib.crc32(repr(sorted(own.items())).encode()) / 2**32


def _search(oracle: Oracle, *, workers: int = 1, most: int | None = None, running: list[Proposal] | None = None) -> int:
    """Ask and tell until there is no more, or `most` were told; every third trial fails."""
    running, told = list(running or []), 0
    while told != most:
        answer = oracle.ask() if len(running) < workers else "wait"
        if isinstance(answer, Proposal):
            running.append(answer)
        elif running:
            trial = running.pop(0)
            oracle.tell(trial.number, None if trial.number % 3 == 2 else _score(trial.values), "it broke")
            told += 1
        else:
            assert answer == "stop"
            break
    return told


def _trials(oracle: Oracle) -> list[dict[str, Any]]:
    """What was tried and told; how often somebody had to wait is of no matter."""
    return [event for event in oracle.events if event.get("asked") not in ("wait", "stop")]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("workers", [1, 3])
def test_so_many_trials_are_tried_and_it_ends(algorithm: Algorithm, workers: int, tmp_path: Path) -> None:
    oracle = _oracle(algorithm, tmp_path)
    assert _search(oracle, workers=workers) == MOST[algorithm]
    assert [event["asked"] for event in oracle.events if "asked" in event][-1] == "stop"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_seed_decides(algorithm: Algorithm, tmp_path: Path) -> None:
    runs = []
    for number, seed in enumerate((0, 0, 1)):
        oracle = _oracle(algorithm, tmp_path / str(number), seed=seed)
        _search(oracle)
        runs.append(_trials(oracle))
    assert runs[0] == runs[1]
    assert (runs[0] != runs[2]) == (algorithm != "grid")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(algorithm=st.sampled_from(QUICK), workers=st.integers(1, 3), most=st.integers(0, 8))
def test_a_log_brings_a_search_back(algorithm: Algorithm, workers: int, most: int, tmp_path: Path) -> None:
    _check_log(algorithm, workers, most, tmp_path)


def test_a_log_brings_gaussian_processes_back(tmp_path: Path) -> None:
    _check_log("bayesian", workers=2, most=3, folder=tmp_path)


def _check_log(algorithm: Algorithm, workers: int, most: int, folder: Path) -> None:
    whole, first, second = (_oracle(algorithm, folder / str(number)) for number in range(3))
    _search(whole, workers=workers)
    _search(first, workers=workers, most=most)
    running = second.replay(first.events)
    # What was running goes on; what was told is not tried again.
    told = {event["told"] for event in first.events if "told" in event}
    assert not told & {proposal.number for proposal in running}
    _search(second, workers=workers, running=running)
    assert _trials(second) == _trials(whole)


def test_the_grid_is_the_whole_space_and_begins_with_the_recipe(tmp_path: Path) -> None:
    oracle = _oracle("grid", tmp_path, space=SMALL, trials=100)
    assert _search(oracle) == 6
    tried = [event["values"] for event in oracle.events if "values" in event]
    assert len({tuple(sorted(values.items())) for values in tried}) == 6
    assert tried[0] == {"towers.width": 64, "features.history": 5}


@pytest.mark.parametrize("algorithm", QUICK)
def test_a_small_space_ends_by_itself(algorithm: Algorithm, tmp_path: Path) -> None:
    oracle = _oracle(algorithm, tmp_path, space=SMALL, trials=40)
    assert 1 <= _search(oracle, workers=2) <= 40


@pytest.mark.parametrize("trials", [4, 8, 13, 22])
def test_hyperband_goes_on_with_the_best(trials: int, tmp_path: Path) -> None:
    """However few the trials are, and though some fail, some are given all the epochs."""
    oracle = _oracle("hyperband", tmp_path, trials=trials)
    _search(oracle)
    asked = [event for event in oracle.events if "values" in event]
    assert max(each["values"]["tuner/epochs"] for each in asked) == 9
    later = [each for each in asked if each["values"]["tuner/round"] > 0]
    assert later or trials < 7
    failed = {str(event["told"]) for event in oracle.events if "told" in event and event["score"] is None}
    assert not {str(int(each["values"]["tuner/trial_id"])) for each in later} & failed
    for each in later:
        before = asked[int(each["values"]["tuner/trial_id"])]["values"]
        assert before["towers.width"] == each["values"]["towers.width"]
        assert before["tuner/epochs"] == each["values"]["tuner/initial_epoch"] < each["values"]["tuner/epochs"] <= 9


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_can_be_given_more_trials(algorithm: Algorithm, tmp_path: Path) -> None:
    few, many = 3, MOST[algorithm] + 1
    first, more = _oracle(algorithm, tmp_path / "1", trials=few), _oracle(algorithm, tmp_path / "2", trials=many)
    _search(first)
    assert more.replay(first.events) == []
    _search(more)
    assert _trials(more)[: 2 * few] == _trials(first)
    assert sum("told" in event for event in more.events) == many


def test_a_log_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Start it anew"):
        _oracle("random", tmp_path).replay([{"told": 0, "score": 0.5, "message": ""}])
    with pytest.raises(BadInput, match="Start it anew"):
        _oracle("random", tmp_path).replay([{"nothing": 1}])
