"""What a place is worth is told from what an item is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.judge import Slates
from pipelines.position_bias import position_power
from pipelines.rankers import Queries

PLACES = 10


def slates(power: float, noise: float, count: int = 4_000, seed: int = 0) -> tuple[Slates, np.ndarray]:
    """Slates in the order of a ranker that knows what items are worth up to `noise`, and that worth, in log-odds."""
    rng = np.random.default_rng(seed)
    worth = rng.normal(-2.5, 1.0, (count, PLACES))
    order = np.argsort(-(worth + rng.normal(0, noise, worth.shape)), axis=1)
    worth = np.take_along_axis(worth, order, axis=1)
    position = np.tile(np.arange(1, PLACES + 1), (count, 1))
    clicked = rng.random(worth.shape) < position**-power / (1 + np.exp(-worth))
    users = np.arange(count)
    found = Slates(
        Queries(users, users, users),
        np.arange(count + 1) * PLACES,
        np.ones(count * PLACES, np.int64),
        clicked.ravel(),
        clicked.ravel(),
        clicked.ravel(),
        position.ravel(),
        rng.permutation(count * PLACES),
    )
    return found, worth.ravel()


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_the_power_is_found_whatever_the_ranker_knew(power: float, noise: float) -> None:
    found, worth = slates(power, noise)
    assert position_power(found, [worth]) == pytest.approx(power, abs=0.15)


def test_of_too_few_slates_nothing_is_said() -> None:
    found, worth = slates(1.0, 1.0, count=5)
    assert position_power(found, [worth]) == 0.0


def test_a_ranker_that_knows_more_than_the_log_s_own_is_seen_to() -> None:
    # The log was made by somebody who knows little; by raw clicks their own order looks as good as the truth.
    found, worth = slates(1.0, noise=3.0, count=6_000)
    own = -found.position.astype(np.float64)
    weighted = replace(found, weight=found.position ** position_power(found, [worth, own]))
    raw, fair = (
        [float(np.nanmean(each.measure(scores)[metric])) for scores in (worth, own)]
        for each, metric in ((found, "ndcg@10"), (weighted, "dcg@10"))
    )
    assert fair[0] - fair[1] > 0.05
    assert raw[0] - raw[1] < (fair[0] - fair[1]) / 2


def test_weights_of_one_change_no_order_of_rankers() -> None:
    found, worth = slates(0.5, 1.0)
    plain = replace(found, weight=np.ones(len(worth)))
    values = plain.measure(worth)
    assert values["ndcg@10"].tolist() == pytest.approx(found.measure(worth)["ndcg@10"].tolist(), nan_ok=True)
    assert np.nanmean(values["dcg@10"]) > np.nanmean(plain.measure(-worth)["dcg@10"])
