"""From scores to probabilities that mean what they say."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from pipelines.metrics import wilson

_FLATTEST = 1e-3


def platt(logit: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of `label` (S,) bool on `logit` (S,) (Platt 1999).

    The slope is kept above zero, so that no order changes. Where only one label occurs, the intercept alone answers:
    the log-odds of one case more of each.
    """
    yes = int(label.sum())
    if not 0 < yes < len(label):
        return _FLATTEST, float(np.log((yes + 1) / (len(label) - yes + 1)))
    fitted = LogisticRegression(C=1e6).fit(logit[:, None], label)
    slope = float(fitted.coef_[0, 0])
    if slope > _FLATTEST:
        return slope, float(fitted.intercept_[0])
    return _FLATTEST, float(np.log(yes / (len(label) - yes)))


def expected_calibration_error(probability: np.ndarray, label: np.ndarray, *, bins: int = 15) -> float:
    """Mean gap between predicted and observed rate over bins of equal size (Naeini et al. 2015, with equal mass)."""
    found = reliability(probability, label, bins=bins)
    return float(sum(abs(each["predicted"] - each["observed"]) * each["count"] for each in found) / len(label))


def reliability(probability: np.ndarray, label: np.ndarray, *, bins: int = 15) -> list[dict[str, float]]:
    """Bins of equal size by rising probability (S,), each with its mean, and the rate of `label` (S,) bool.

    What a reliability diagram shows (Murphy and Winkler 1977). The rate has its 95 % interval (Wilson 1927), which
    takes rows for independent.

    Returns:
        `count`, `predicted`, `observed`, `low` and `high` of each bin.
    """
    order = np.argsort(probability, kind="stable")
    found = []
    for part in np.array_split(order, bins):
        if len(part):
            low, high = wilson(int(label[part].sum()), len(part))
            means = {"predicted": float(probability[part].mean()), "observed": float(label[part].mean())}
            found.append({"count": len(part), **means, "low": low, "high": high})
    return found
