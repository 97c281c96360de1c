"""How much likelier an item is clicked for where it stood: what a log owes to the ranking that made it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from pipelines.conditional_logit import Choices
from pipelines.judge import Slates

_STEEPEST = 1.5  # power; steeper than any that was measured, and the weight of a last place stays bounded


def position_power(slates: Slates, scores: Sequence[np.ndarray]) -> float:
    """The power p of examination ~ position ** -p (Craswell et al. 2008), from 0 to 1.5.

    Fitted by the conditional logit of a click among what its slate showed, beside what each item is worth by `scores`
    ((S,) each): a ranking that shows the best first would pass for position bias otherwise. Scores of several rankers
    leave less to be taken for it. Where too few slates say anything it is 0.

    Wrong where places say nothing of what is looked at, such as on a grid.
    """
    choices = Choices.of(slates.offsets, slates.clicked)
    if len(choices) < 10 * (len(scores) + 1):
        return 0.0
    columns = [-np.log(slates.position[choices.row].astype(np.float64))]
    for each in scores:
        worth = each[choices.row].astype(np.float64)
        columns.append((worth - worth.mean()) / (worth.std() or 1.0))
    features = np.stack(columns, axis=1)

    def loss(weight: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = choices.loss(features @ weight)
        return value + 1e-3 * float(weight[1:] @ weight[1:]), slope @ features + np.r_[0.0, 2e-3 * weight[1:]]

    bounds = [(0.0, _STEEPEST), *[(None, None)] * len(scores)]
    found = minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x[0]
    # No log says it more precisely, and the last digits of scores differ from run to run.
    return round(float(found), 2)
