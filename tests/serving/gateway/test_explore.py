"""What is left to chance is as likely as the slates say."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.explore import Draw, coins, draw, explored


@given(st.integers(1, 8), st.integers(0, 12), st.floats(0, 1))
def test_every_draw_counted_gives_the_propensities_told(places: int, more: int, share: float) -> None:
    pool = list(range(places + more))
    ordered = pool[:places]
    probability: Counter[tuple[int, int]] = Counter()
    told: dict[tuple[int, int], float] = {}
    cells = [((place + 0.5) / places, (item + 0.5) / len(pool)) for place in range(places) for item in range(len(pool))]
    draws = [(share / len(cells), Draw(*cell)) for cell in cells]
    for chance, drawn in [(1 - share, None), *draws]:
        answer = explored(ordered, pool, share, drawn)
        items = [item for item, _ in answer]
        assert len(set(items)) == places, "no item twice"
        for place, (item, propensity) in enumerate(answer):
            probability[place, item] += chance
            assert told.setdefault((place, item), propensity) == propensity
    for cell, chance in probability.items():
        if share or cell[0] == cell[1]:
            assert told[cell] == pytest.approx(chance, abs=1e-9)


def test_requests_explore_as_often_as_they_should() -> None:
    drawn = [draw(f"request {number}", 0.3) for number in range(10_000)]
    explores = [each for each in drawn if each is not None]
    assert len(explores) == pytest.approx(3_000, abs=200)
    assert sum(each.place for each in explores) / len(explores) == pytest.approx(0.5, abs=0.03)
    assert sum(each.item for each in explores) / len(explores) == pytest.approx(0.5, abs=0.03)
    assert draw("request 1", 0.3) == drawn[1]
    assert all(draw(f"request {number}", 0.0) is None for number in range(100))
    assert all(draw(f"request {number}", 1.0) is not None for number in range(100))
    assert coins("a") != coins("b")
