from __future__ import annotations

import numpy as np

from pipelines.blend import Offers, fit_weights

QUERIES, SHOWN = 1500, 8


def world(truth: np.ndarray, slices: int = 0, seed: int = 0) -> Offers:
    """Slates whose clicks follow the members' scores by weights `truth` (S + 1, M)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(QUERIES * SHOWN, truth.shape[1]))
    place = np.repeat(rng.integers(0, slices + 1, QUERIES), SHOWN)
    odds = np.exp((scores * truth[place]).sum(axis=1)).reshape(QUERIES, SHOWN)
    share = odds / odds.sum(axis=1, keepdims=True)
    wanted = np.zeros((QUERIES, SHOWN), bool)
    for row, each in enumerate(share):
        wanted[row, rng.choice(SHOWN, p=each)] = True
    return Offers(scores, np.arange(QUERIES + 1) * SHOWN, wanted.ravel(), place)


def test_the_weights_that_made_the_clicks_are_found() -> None:
    np.testing.assert_allclose(fit_weights(world(np.array([[2.0, 0.5]])), 0), [[2.0, 0.5]], atol=0.2)


def test_a_member_that_knows_nothing_or_worse_gets_nothing() -> None:
    found = fit_weights(world(np.array([[1.5, 0.0, -1.0]])), 0)[0]
    assert found[1] < 0.15
    assert found[2] < 0.05


def test_slices_with_weights_of_their_own_get_them() -> None:
    found = fit_weights(world(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]), 2), 2)
    assert found[1, 0] > 1.4 > 0.6 > found[1, 1]
    assert found[2, 1] > 1.4 > 0.6 > found[2, 0]


def test_a_slice_of_few_queries_stays_near_the_weights_of_all() -> None:
    offers = world(np.array([[1.5, 0.5], [0.0, 3.0]]), 1)
    few = offers.slice_of.reshape(QUERIES, SHOWN)[:, 0] * (np.arange(QUERIES) < 12)
    found = fit_weights(Offers(offers.scores, offers.offsets, offers.wanted, np.repeat(few, SHOWN)), 1)
    assert np.abs(found[1] - found[0]).max() < 0.6


def test_without_a_choice_all_members_count_alike() -> None:
    offers = world(np.array([[1.0, 1.0]]))
    nothing = Offers(offers.scores, offers.offsets, np.zeros_like(offers.wanted), offers.slice_of)
    np.testing.assert_array_equal(fit_weights(nothing, 2), np.ones((3, 2)))
