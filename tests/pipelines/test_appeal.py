"""The conditional logit fit against its own definition, and cross-fitting against leaks."""

from __future__ import annotations

import itertools

import numpy as np

from pipelines.appeal import cross_fitted, fit_appeal, folds_by_day

ITEMS, WIDTH = 40, 3


def world(requests: int = 600, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(ITEMS + 1, WIDTH)).astype(np.float32)
    vectors[0] = 0
    truth = np.array([2.0, -1.0, 0.0])
    sizes = rng.integers(2, 6, requests)
    offsets = np.r_[0, np.cumsum(sizes)]
    item = rng.integers(1, ITEMS + 1, offsets[-1])
    clicked = np.zeros(offsets[-1], bool)
    for start, end in itertools.pairwise(offsets):
        odds = np.exp(vectors[item[start:end]] @ truth)
        clicked[start + rng.choice(end - start, p=odds / odds.sum())] = True
    return vectors, offsets, item, clicked, np.sort(rng.integers(0, 6 * 86_400, requests))


def test_the_weights_that_made_the_clicks_are_found() -> None:
    vectors, offsets, item, clicked, _ = world(3000)
    np.testing.assert_allclose(fit_appeal(vectors, offsets, item, clicked, 0.0), [2, -1, 0], atol=0.15)


def test_a_penalty_shrinks_towards_zero() -> None:
    vectors, offsets, item, clicked, _ = world()
    sizes = [np.linalg.norm(fit_appeal(vectors, offsets, item, clicked, l2)) for l2 in (0.0, 0.03, 0.3, 30.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.05


def test_slates_that_say_nothing_change_nothing() -> None:
    vectors, offsets, item, clicked, _ = world()
    weights = fit_appeal(vectors, offsets, item, clicked, 0.01)
    more_items, more_clicks = np.r_[item, [1, 2, 3, 4]], np.r_[clicked, [False, False, True, True]]
    more_offsets = np.r_[offsets, offsets[-1] + 2, offsets[-1] + 4, offsets[-1] + 4]
    np.testing.assert_allclose(fit_appeal(vectors, more_offsets, more_items, more_clicks, 0.01), weights, atol=1e-3)
    assert not fit_appeal(vectors, np.array([0, 2]), item[:2], np.array([True, True]), 0.01).any()


def test_what_a_request_is_given_does_not_depend_on_the_clicks_of_its_day() -> None:
    vectors, offsets, item, clicked, at = world()
    found = cross_fitted(vectors, offsets, item, clicked, at, 0.01)
    last_day = np.repeat(at // 86_400 == 5, np.diff(offsets))
    other = np.where(last_day, np.random.default_rng(1).random(len(clicked)) < 0.5, clicked)
    changed = cross_fitted(vectors, offsets, item, other, at, 0.01)
    np.testing.assert_array_equal(changed[last_day], found[last_day])
    assert np.abs(changed[~last_day] - found[~last_day]).max() > 1e-3


def test_one_day_is_cut_into_stretches_of_time() -> None:
    at = np.array([50, 10, 40, 20, 30, 60])
    np.testing.assert_array_equal(folds_by_day(at, 3), [2, 0, 1, 0, 1, 2])
    np.testing.assert_array_equal(folds_by_day(np.array([0, 86_400, 5]), 6), [0, 1, 0])
