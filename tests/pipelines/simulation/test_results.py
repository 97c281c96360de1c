"""What is said of a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.data.sources.newsroom.sizes import DAY
from pipelines.simulation.operator import Night
from pipelines.simulation.results import ARMS, click_rate_lead, summary
from pipelines.simulation.traffic import Visits

START = 1_000 * DAY


def visits(rate: dict[str, float], count: int = 4_000, seed: int = 0) -> Visits:
    rng = np.random.default_rng(seed)
    names = np.array([ARMS["loop"], ARMS["frozen"], "default"], object)
    user = rng.integers(0, 300, count)
    variant = names[user % 3]
    likely = np.array([rate.get(name, 0.1) for name in variant])
    return Visits(
        user=user,
        at=START + rng.integers(0, 2 * DAY, count),
        variant=variant,
        version=np.where(variant == "default", 7, 1),
        fallback=np.zeros(count, bool),
        shown=np.full(count, 10),
        clicks=rng.binomial(10, likely),
        expected=10 * likely,
    )


def test_a_lead_that_is_there_is_found_and_one_that_is_not_is_not() -> None:
    better = visits({ARMS["loop"]: 0.15})
    found = summary(better, [], START, 2, None)
    assert found["lead"]["low"] > 0
    assert found["lead"]["relative"] == pytest.approx(0.5, abs=0.1)
    assert found["true_ctr"]["loop"] == pytest.approx(0.15)
    assert len(found["by_day"]) == 2
    inside = 0
    for seed in range(40):
        same = visits({}, 1_000, seed)
        lead = click_rate_lead(same, same.variant == ARMS["loop"], same.variant == ARMS["frozen"])
        inside += lead["low"] <= 0 <= lead["high"]
    assert inside >= 34


def test_how_far_a_bad_version_got() -> None:
    nights = [Night(0), Night(1)]
    nights[1].experiments = [{"name": "version-7", "verdict": "lost", "why": "Worse.", "done": "", "users": {}}]
    found = summary(visits({}), nights, START, 2, 7)["spoilt"]
    assert found["largest_share_of_a_day"] == pytest.approx(1 / 3, abs=0.05)
    assert (found["looks"], found["verdict"], found["days"]) == (1, "lost", [0, 1])
