"""Chances against SciPy's, which serving does not have."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from serving.monitoring.significance import chi_squared_sf, holm, kolmogorov_sf


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 20, 99, 500])
def test_chi_squared(freedom: int) -> None:
    for statistic in (0.0, 1e-6, 0.1, 1.0, 3.84, 10.0, 40.0, 120.0, 600.0, 2_000.0):
        assert chi_squared_sf(statistic, freedom) == pytest.approx(
            stats.chi2.sf(statistic, freedom), rel=1e-9, abs=1e-300
        )


def test_kolmogorov() -> None:
    for rows, others, distance in itertools.product((50, 200, 5_000), (60, 1_000), (0.02, 0.05, 0.1, 0.2, 0.5)):
        size = rows * others / (rows + others)
        exact = stats.kstwo.sf(distance, round(size))
        assert kolmogorov_sf(distance, rows, others) == pytest.approx(exact, rel=0.15, abs=0.01)
    assert kolmogorov_sf(0.0, 10, 10) == kolmogorov_sf(0.5, 0, 10) == 1.0


def test_holm() -> None:
    chances = [0.04, 0.001, 0.03, 0.9]
    assert holm(chances) == pytest.approx([0.09, 0.004, 0.09, 0.9])
    assert holm([]) == []
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = rng.random(6).tolist()
        adjusted = holm(drawn)
        assert all(own <= other <= 1 for own, other in zip(drawn, adjusted, strict=True))
        order = np.argsort(drawn)
        assert (np.diff(np.array(adjusted)[order]) >= 0).all()
