from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipelines.popularity import Popularity


def same(made: Any) -> np.ndarray:
    return np.arange(len(made.catalogue) + 1)


def test_only_what_was_strictly_before_counts(made: Any) -> None:
    log, requests = made.behaviour.interactions, made.behaviour.requests
    popularity = Popularity.of([(made.behaviour, same(made))])
    rng = np.random.default_rng(0)
    item, at = rng.integers(0, len(made.catalogue) + 1, (50, 3)), rng.integers(-100, 12_000, (50, 3))
    at[0] = log.at[:3]
    shown_at = np.repeat(requests.at, np.diff(requests.offsets))
    mean = requests.clicked.sum() / (requests.item > 0).sum()
    clicks, rate = popularity.clicks(item, at), popularity.click_rate(item, at)
    for place in np.ndindex(item.shape):
        before = int(((log.item == item[place]) & (log.at < at[place])).sum()) if item[place] else 0
        shown = int(((requests.item == item[place]) & (shown_at < at[place])).sum()) if item[place] else 0
        assert clicks[place] == before
        expected = np.log((before + 50 * popularity.mean_rate) / (shown + 50) / popularity.mean_rate)
        assert rate[place] == pytest.approx(expected, abs=1e-5)
    assert 0.5 * mean < popularity.mean_rate <= mean


def test_of_a_second_log_only_what_came_before_the_first_counts(made: Any) -> None:
    item = np.arange(1, len(made.catalogue) + 1)
    end = np.full(len(item), 20_000)
    once = Popularity.of([(made.behaviour, same(made))])
    twice = Popularity.of([(made.behaviour, same(made)), (made.behaviour, same(made))])
    np.testing.assert_array_equal(twice.clicks(item, end), once.clicks(item, end))
    log, requests = made.behaviour.interactions, made.behaviour.requests
    before = replace(
        made.behaviour,
        interactions=replace(log, at=log.at - 50_000),
        requests=replace(requests, at=requests.at - 50_000),
    )
    both = Popularity.of([(made.behaviour, same(made)), (before, same(made))])
    np.testing.assert_array_equal(both.clicks(item, end), 2 * once.clicks(item, end))
    nothing = Popularity.of([(made.behaviour, same(made) * 0)])
    assert not nothing.clicks(item, end).any()
