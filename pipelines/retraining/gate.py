"""The gate: the champion and its successor on the same events, which neither was trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.judge import CatalogueTargets, Slates
from pipelines.metrics import RANK_METRICS, bootstrap, rank_metrics
from pipelines.position_bias import position_power
from pipelines.prepare import Prepared
from pipelines.rankers import Ranker
from pipelines.recipe import Recipe
from pipelines.slices import Slices

_DEFAULT_METRIC, _FAIR_METRIC = "ndcg@10", "dcg@10"
_SURE = 0.05
_WHOLE = "all"


class Lead(BaseModel):
    """The successor's lead over the champion: the mean over users, and its 95 % interval by the paired bootstrap."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float
    low: float
    high: float
    users: int

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


class SliceLead(Lead):
    """The same in a slice; `p` of a fall is adjusted by Holm over the slices that have enough users, else None."""

    name: str
    p: float | None
    falls: bool


class Verdict(BaseModel):
    """What the gate found.

    Attributes:
        accepted, why: Whether the successor passes, and a sentence that says why.
        metric, on: Of `slates` or of the `catalogue`.
        champion, candidate: Means over users.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    accepted: bool
    why: str
    metric: str
    on: str
    champion: float
    candidate: float
    lead: Lead
    slices: list[SliceLead]


def gate(recipe: Recipe, data: Prepared, candidate: Ranker, champion: Ranker) -> Verdict:
    """Judge both on the test part of `data`.

    The metric is dcg@10 on slates, of clicks weighted against position bias: the champion made most of them, and put
    first what it likes best (`pipelines.position_bias`). On a catalogue it is `training.metric`, or nDCG@10 where that
    is `auto`. Every user counts alike: a user's requests are not
    independent of one another, so that users are what the bootstrap draws. The successor passes if its mean lead is
    above 0, the lead's interval does not reach further below 0 than `retraining.tolerance`, and it falls in no slice
    with `retraining.slice_users` or more: by item language, device of the request, new and known users, new, head and
    tail items. A slice falls where the one-sided paired t-test is significant at 5 % after Holm (1979).

    Slates are those that were served, most of them by the champion: what the successor would have shown instead, and
    the champion did not, they do not tell. That is for an experiment.

    Args:
        champion: Over the same items as `candidate`.

    Raises:
        BadInput: There is nothing to judge on.
    """
    metric = recipe.training.metric if recipe.training.metric in RANK_METRICS else _DEFAULT_METRIC
    metric = _FAIR_METRIC if data.on_requests else metric
    measured = _by_slice(data, [candidate, champion], metric)
    values = {name: [_by_user(rows, user) for rows in both] for name, (both, user) in measured.items()}
    if not np.isfinite(values[_WHOLE][0]).any():
        raise BadInput(
            f"the newest window of {data.name} has nothing to judge on: no user has a click there that says which of "
            "two rankings is better."
        )
    leads = {name: both[0] - both[1] for name, both in values.items()}
    leads = {name: lead for name, lead in leads.items() if np.isfinite(lead).any()}
    found = bootstrap(leads, seed=recipe.training.seed)
    whole, settings = found.pop(_WHOLE), recipe.retraining
    judged = [name for name, each in found.items() if each.count >= settings.slice_users]
    adjusted = dict(zip(judged, holm([_fall(leads[name]) for name in judged]), strict=True))
    slices = [
        SliceLead(
            name=name,
            mean=each.mean,
            low=each.low,
            high=each.high,
            users=each.count,
            p=adjusted.get(name),
            falls=adjusted.get(name, 1.0) < _SURE,
        )
        for name, each in found.items()
    ]
    lead = Lead(mean=whole.mean, low=whole.low, high=whole.high, users=whole.count)
    faults = []
    if lead.mean <= 0:
        faults.append("it is no better")
    if lead.low < -settings.tolerance:
        faults.append(f"it may be worse by more than {settings.tolerance:g}")
    faults += [f"{each.name} falls by {each}" for each in slices if each.falls]
    told = f"{metric} leads by {lead} over {lead.users:,} users of the newest window"
    return Verdict(
        accepted=not faults,
        why=f"{told}: {' and '.join(faults)}" if faults else f"{told}, and no slice falls",
        metric=metric,
        on="slates" if data.on_requests else "catalogue",
        champion=float(np.nanmean(values[_WHOLE][1])),
        candidate=float(np.nanmean(values[_WHOLE][0])),
        lead=lead,
        slices=slices,
    )


def holm(p: list[float]) -> list[float]:
    """P-values adjusted for their number by Holm's step-down method (1979), in their order."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1)) if p else np.zeros(0)
    found = np.empty(len(p))
    found[order] = np.minimum(stepped, 1.0)
    return [float(each) for each in found]


def _fall(lead: np.ndarray) -> float:
    """P-value of the one-sided paired t-test that the mean lead is not below 0."""
    there = lead[np.isfinite(lead)]
    if not there.std():
        return 0.0 if there.mean() < 0 else 1.0
    return float(stats.ttest_1samp(there, 0.0, alternative="less").pvalue)


def _by_slice(data: Prepared, rankers: list[Ranker], metric: str) -> dict[str, tuple[list[np.ndarray], np.ndarray]]:
    """Of all and of each slice: the metric of each ranker by row, and the user of each row."""
    slices = Slices.of(data, data)
    if data.on_requests:
        slates = Slates.of(data.behaviour, data.parts.requests == Part.TEST, known_only=True)
        scores = [slates.scores(ranker) for ranker in rankers]
        slates = replace(slates, weight=slates.position ** position_power(slates, scores))
        whole = [slates.measure(each)[metric] for each in scores]
        sliced = [slices.of_slates(slates, each) for each in scores]
        queries = slates.queries
    else:
        targets = CatalogueTargets.of(data.behaviour, data.catalogue, data.parts.interactions == Part.TEST)
        ranks = [targets.ranks(ranker) for ranker in rankers]
        whole = [rank_metrics(each)[metric] for each in ranks]
        sliced = [slices.of_ranks(targets, each) for each in ranks]
        queries = targets.queries
    found = {_WHOLE: whole} | {name: [each[name][metric] for each in sliced] for name in sliced[0]}
    asked_from = np.zeros(0) if queries.device is None else queries.device
    for device in sorted({str(each) for each in asked_from if each}):
        found[f"device {device}"] = [np.where(asked_from == device, each, np.nan) for each in whole]
    return {name: (both, queries.user) for name, both in found.items()}


def _by_user(values: np.ndarray, user: np.ndarray) -> np.ndarray:
    """The mean of each user's rows, in the users' order; NaN for a user of whom nothing was measured."""
    there = np.isfinite(values)
    place = np.unique(user, return_inverse=True)[1]
    count = np.bincount(place[there], minlength=place.max(initial=-1) + 1)
    total = np.bincount(place[there], values[there], minlength=len(count))
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)
