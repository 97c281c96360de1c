"""A dataset as it would be without a part of its clicks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines.data.splits import hide, keep
from pipelines.judge import Slates
from pipelines.prepare import Prepared


def hold_out(data: Prepared, held: np.ndarray) -> Prepared:
    """The same data without what is known of the items `held` (N + 1,) bool before the test part.

    Their positives and their places in slates are left out of training, of validation and of all histories; what
    belongs to the test stays. The items stay in the catalogue, without a place in the vocabulary of ids.
    """
    behaviour, parts = hide(data.behaviour, data.parts, held)
    hidden = set(data.catalogue.ids[held[1:]].tolist())
    known = [item for item in data.vocabulary.items if item not in hidden]
    return replace(
        data,
        behaviour=behaviour,
        parts=parts,
        vocabulary=data.vocabulary.model_copy(update={"items": known}),
        window=replace(data.window, interactions=behaviour.interactions),
    )


def hide_answers(data: Prepared, hidden: np.ndarray) -> Prepared:
    """The same data as if no event had said what became of the requests `hidden` (R,) bool.

    Their positives are left out of training and of all histories; what they showed stays, as not clicked.
    """
    log, requests = data.behaviour.interactions, data.behaviour.requests
    kept = (log.request < 0) | ~hidden[log.request]
    behaviour, parts = keep(data.behaviour, data.parts, kept, np.ones(len(requests.item), bool))
    left = ~hidden[np.repeat(np.arange(len(requests)), np.diff(requests.offsets))]
    labels = {name: getattr(requests, name) & left for name in ("clicked", "read", "liked")}
    behaviour = replace(behaviour, requests=replace(behaviour.requests, **labels))
    return replace(
        data, behaviour=behaviour, parts=parts, window=replace(data.window, interactions=behaviour.interactions)
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
