"""Which examples train, which choose the epoch, and which are the test."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from pipelines.data.histories import Behaviour
from pipelines.recipe import Split


class Part(IntEnum):
    TRAIN = 0
    VALIDATION = 1
    TEST = 2


@dataclass(frozen=True)
class Parts:
    """The part of every positive (E,) and of every request (R,)."""

    interactions: np.ndarray
    requests: np.ndarray

    def without_validation(self) -> Parts:
        """The same, with what was kept for validation in training."""
        return Parts(
            *(np.where(part == Part.VALIDATION, int(Part.TRAIN), part) for part in (self.interactions, self.requests))
        )


def split(behaviour: Behaviour, rule: Split, *, on_requests: bool) -> Parts:
    """Assign the parts.

    By time, the cut-offs are moments, so that nothing in training is later than anything in the test. They are
    quantiles of the requests' times, or of the positives' where there are no requests. A click that came after a
    cut-off is in the later part, even if its request is not.

    By last, only users with three positives or more are divided.

    Args:
        on_requests: Whether a request (with all its positives) is the unit, or a positive.
    """
    interactions, requests = behaviour.interactions, behaviour.requests
    if rule.by == "none":
        return everything(behaviour, Part.TRAIN)
    if rule.by == "time":
        moments = requests.at if on_requests else interactions.at
        if not len(moments):
            return everything(behaviour, Part.TRAIN)
        # A share of zero keeps nothing back: its cut-off lies past its end.
        end = moments.max() + 1
        test = np.quantile(moments, 1 - rule.test, method="higher") if rule.test else end
        first = 1 - rule.test - rule.validation
        validation = np.quantile(moments, first, method="higher") if rule.validation else test
        cuts = [validation, test]
        return Parts(np.searchsorted(cuts, interactions.at, "right"), np.searchsorted(cuts, requests.at, "right"))
    from_end = np.repeat(interactions.user_offsets[1:], np.diff(interactions.user_offsets)) - np.arange(
        len(interactions)
    )
    enough = np.repeat(np.diff(interactions.user_offsets), np.diff(interactions.user_offsets)) >= 3
    part = np.select([enough & (from_end == 1), enough & (from_end == 2)], [Part.TEST, Part.VALIDATION], Part.TRAIN)
    request_part = np.zeros(len(requests), dtype=part.dtype)
    belongs = interactions.request >= 0
    np.maximum.at(request_part, interactions.request[belongs], part[belongs])
    if on_requests:  # no click of a tested slate may be trained on
        part[belongs] = request_part[interactions.request[belongs]]
    return Parts(part, request_part)


def everything(behaviour: Behaviour, part: Part) -> Parts:
    """All examples in one part, as when another dataset is the test."""
    return Parts(
        np.full(len(behaviour.interactions), int(part)),
        np.full(len(behaviour.requests), int(part)),
    )
