from __future__ import annotations

import numpy as np
import pytest

from pipelines.calibration import expected_calibration_error, platt


def test_platt_finds_the_slope_and_intercept_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(size=20_000)
    label = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * logit - 1)))
    assert platt(logit, label) == pytest.approx((0.5, -1.0), abs=0.06)
    slope, intercept = platt(logit, label)
    good = 1 / (1 + np.exp(-(slope * logit + intercept)))
    assert expected_calibration_error(good, label) < 0.015 < expected_calibration_error(1 / (1 + np.exp(-logit)), label)


def test_a_slope_is_never_turned_around() -> None:
    logit = np.linspace(-1, 1, 100)
    slope, intercept = platt(logit, logit < 0)
    assert slope > 0
    assert intercept == pytest.approx(0, abs=1e-6)
    assert platt(logit, np.zeros(100, bool))[1] < -4


def test_the_error_is_the_gap_of_means_over_bins() -> None:
    probability = np.r_[np.full(10, 0.2), np.full(10, 0.9)]
    label = np.r_[np.arange(10) < 4, np.arange(10) < 9]
    assert expected_calibration_error(probability, label, bins=2) == pytest.approx(0.1)
