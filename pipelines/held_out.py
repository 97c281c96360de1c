"""A dataset as it would be if nobody had clicked on a domain's items before the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines.data.splits import hide
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


def clicks_among(slates: Slates, wanted: np.ndarray) -> Slates:
    """The slates with no clicks but those on items `wanted` (N + 1,) bool; what else was clicked is left out."""
    kept = ~slates.clicked | wanted[slates.item]
    flat = ("item", "clicked", "read", "liked", "position", "tie_break")
    return replace(
        slates,
        offsets=np.r_[0, np.cumsum(kept)][slates.offsets],
        **{name: getattr(slates, name)[kept] for name in flat},
    )
