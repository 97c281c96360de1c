"""Interactions that thin segments might have had: what is most similar to what they read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.balance.classes import Classes
from pipelines.data.positives import Positives
from pipelines.data.splits import Part
from pipelines.prepare import Prepared
from pipelines.recipe import Simulated


def simulated(
    classes: Classes, positives: Positives, similar: np.ndarray, data: Prepared, settings: Simulated, seed: int
) -> tuple[Positives, dict[str, Any]]:
    """For each positive of a thin segment, others of the same moment whose item is similar to it.

    An item that is drawn was on offer then, was not shown by the same request, and is none of the user's in the
    training part. What the user read in validation or test is not looked up, neither to take it nor to avoid it: a
    model that knew what to avoid would know the answers.

    Args:
        similar: (N + 1, K) int32 rows of the items most similar to each, 0 where there are fewer.

    Returns:
        Positives, and a report: how many by class, and for how many positives nothing was left to draw.
    """
    thin = _thin(classes, positives, data, settings)
    source = positives[thin]
    candidate = similar[source.item]
    fits = _fits(source, candidate, data)
    # Some of those that fit, drawn.
    rng = np.random.default_rng((seed, 3))
    key = np.where(fits, rng.random(candidate.shape), np.inf)
    drawn = np.argsort(key, axis=1)[:, : settings.each]
    kept = np.take_along_axis(fits, drawn, axis=1)
    row, column = np.nonzero(kept)
    item = candidate[row, drawn[row, column]].astype(np.int32)
    weight = (source.weight[row] * settings.weight).astype(np.float32)
    # The same user gets the same item once.
    first = np.unique(np.stack([source.user[row], item]), axis=1, return_index=True)[1] if len(row) else row
    chosen = np.sort(first)
    found = replace(source[row[chosen]], item=item[chosen], view=item[chosen] * 0, weight=weight[chosen])
    report = {
        "added": len(found),
        "by_class": classes.named(classes.counts(found)),
        "of_positives": len(source),
        "without_candidate": int((~fits.any(axis=1)).sum()),
        "users": len(np.unique(found.user)),
    }
    return found, report


def _thin(classes: Classes, positives: Positives, data: Prepared, settings: Simulated) -> np.ndarray:
    """(P,) bool: the positives of the thin segment."""
    if settings.segment == "users":
        log = data.behaviour.interactions
        trained = np.bincount(log.user[data.parts.interactions == Part.TRAIN], minlength=len(log.user_offsets) - 1)
        return trained[positives.user] <= settings.events
    counts = classes.counts(positives)
    of = classes.of_item[positives.item]
    return (of >= 0) & (np.r_[counts, 0][of] < settings.below * counts.max(initial=0))


def _fits(source: Positives, candidate: np.ndarray, data: Prepared) -> np.ndarray:
    """(P, K) bool: may the user of a positive have wanted the candidate (P, K) then?"""
    log, requests, catalogue = data.behaviour.interactions, data.behaviour.requests, data.catalogue
    place = np.maximum(candidate, 1) - 1
    at = source.at[:, None]
    fits = (candidate > 0) & (catalogue.published_at[place] <= at) & (at < catalogue.removed_at[place])
    size = len(catalogue) + 1
    train = data.parts.interactions == Part.TRAIN
    own = log.user[train].astype(np.int64) * size + log.item[train]
    fits &= ~np.isin(source.user[:, None].astype(np.int64) * size + candidate, own)
    asked = source.request >= 0
    if asked.any():
        request = np.repeat(np.arange(len(requests)), np.diff(requests.offsets))
        shown = np.unique(request * size + requests.item)
        fits[asked] &= ~np.isin(source.request[asked][:, None].astype(np.int64) * size + candidate[asked], shown)
    return fits
