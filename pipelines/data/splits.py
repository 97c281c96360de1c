"""Which examples train, which choose the epoch, and which are the test."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
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


def split_at_random(behaviour: Behaviour, rule: Split, seed: int) -> tuple[Behaviour, Parts]:
    """Shares of each user's positives, drawn at random, and the behaviour in which a user's validation part follows the
    training part and the test follows both: so is a history what is trained on, whenever it happened.

    At least one positive of every user is trained on. Slates have no place in such a split and are left out.
    """
    log = behaviour.interactions
    count = np.diff(log.user_offsets)
    drawn = np.lexsort((np.random.default_rng(seed).random(len(log)), log.user))
    place = np.empty(len(log), np.int64)
    place[drawn] = np.arange(len(log)) - np.repeat(log.user_offsets[:-1], count)
    kept = np.maximum(np.minimum(1, count), np.rint(count * (1 - rule.validation - rule.test)).astype(int))
    before_test = np.clip(np.rint(count * (1 - rule.test)).astype(int), kept, count)
    part = (place >= kept[log.user]).astype(int) + (place >= before_test[log.user])
    order = np.lexsort((np.arange(len(log)), part, log.user))
    part, user = part[order], log.user[order]
    end = np.arange(len(log))
    for held, size in ((Part.VALIDATION, kept), (Part.TEST, before_test)):
        end = np.where(part == held, log.user_offsets[user] + size[user], end)
    columns = {name: getattr(log, name)[order] for name in ("user", "item", "at", "dwell", "scroll", "device")}
    moved = replace(log, **columns, request=np.full(len(log), -1), history_end=end)
    requests = behaviour.requests
    nothing = {field.name: getattr(requests, field.name)[:0] for field in fields(requests)}
    empty = replace(requests, **{**nothing, "offsets": np.zeros(1, np.int64)})
    return Behaviour(moved, empty, behaviour.unknown), Parts(part, np.zeros(0, np.int64))


def everything(behaviour: Behaviour, part: Part) -> Parts:
    """All examples in one part, as when another dataset is the test."""
    return Parts(
        np.full(len(behaviour.interactions), int(part)),
        np.full(len(behaviour.requests), int(part)),
    )
