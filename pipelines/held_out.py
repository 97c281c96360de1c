"""A dataset as it would be if nobody had clicked on a domain's items before the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines.data.histories import Behaviour
from pipelines.data.splits import Part, Parts
from pipelines.judge import Slates
from pipelines.prepare import Prepared


def hold_out(data: Prepared, held: np.ndarray) -> Prepared:
    """The same data without what is known of the items `held` (N + 1,) bool before the test part.

    Their positives and their places in slates are left out of training, of validation and of all histories; what
    belongs to the test stays. The items stay in the catalogue, without a place in the vocabulary of ids.
    """
    log, requests = data.behaviour.interactions, data.behaviour.requests
    kept = ~held[log.item] | (data.parts.interactions == Part.TEST)
    before = np.r_[0, np.cumsum(kept)]
    columns = {
        name: getattr(log, name)[kept] for name in ("user", "item", "at", "dwell", "scroll", "device", "request")
    }
    ends = {"user_offsets": before[log.user_offsets], "history_end": before[log.history_end[kept]]}
    events = replace(log, **columns, **ends)
    request = np.repeat(np.arange(len(requests)), np.diff(requests.offsets))
    shown = ~held[requests.item] | (data.parts.requests == Part.TEST)[request]
    slates = {name: getattr(requests, name)[shown] for name in ("item", "item_ids", "clicked", "read", "liked")}
    left = replace(
        requests,
        **slates,
        offsets=np.r_[0, np.cumsum(shown)][requests.offsets],
        history_end=before[requests.history_end],
    )
    hidden = set(data.catalogue.ids[held[1:]].tolist())
    known = [item for item in data.vocabulary.items if item not in hidden]
    return replace(
        data,
        behaviour=Behaviour(events, left, data.behaviour.unknown),
        parts=Parts(data.parts.interactions[kept], data.parts.requests),
        vocabulary=data.vocabulary.model_copy(update={"items": known}),
        window=replace(data.window, interactions=events),
    )


def clicks_among(slates: Slates, wanted: np.ndarray) -> Slates:
    """The slates with no clicks but those on items `wanted` (N + 1,) bool; what else was clicked is left out."""
    kept = ~slates.clicked | wanted[slates.item]
    flat = ("item", "clicked", "read", "liked", "position", "tie_break")
    return replace(
        slates,
        offsets=np.r_[0, np.cumsum(kept)][slates.offsets],
        **{name: getattr(slates, name)[kept] for name in flat},
    )
