"""One place of an answer left to chance, so that what another policy would have earned can be estimated."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

ItemT = TypeVar("ItemT")
_STEPS = 2**53


class Draw(NamedTuple):
    """Of an answer of K items from a pool of M: a place, and what of the pool comes there; both from 0 to 1."""

    place: float
    item: float


def draw(request_id: str, share: float) -> Draw | None:
    """Whether an answer explores, which is so for `share` of them; by a hash, so that it can be found out again."""
    if not share:
        return None
    explores, place, item = ((each >> 11) / _STEPS for each in _numbers(request_id, b"explore", 3))
    return Draw(place, item) if explores < share else None


def coins(request_id: str) -> int:
    """A seed for whatever else is left to chance in an answer."""
    return _numbers(request_id, b"coins", 1)[0]


def explored(
    ordered: Sequence[ItemT], pool: Sequence[ItemT], share: float, drawn: Draw | None
) -> list[tuple[ItemT, float]]:
    """An answer with the probability with which each item stands where it does, over all draws.

    One of the K places is drawn, and one of the M items of the pool, each with the same probability. A new item
    replaces the one that stood there; one that stood elsewhere changes places with it. So every item of the pool may
    come to every place, with a probability that is known:

    - e (1 / KM) for an item that the policy did not choose, where e is the share of answers that explore;
    - 2e / KM for one that it chose for another place;
    - 1 - e (M + K - 2) / KM for its own choice.

    Args:
        ordered: The policy's choice, K.
        pool: What may be shown, M; the choice is part of it, and comes first.
        share: e.
        drawn: By `draw`; None for the policy's choice itself.
    """
    places, items = len(ordered), len(pool)
    if not places or not share:
        return [(item, 1.0) for item in ordered]
    step = share / (places * items)
    own = 1 - step * (items + places - 2)
    shown = [(item, own) for item in ordered]
    if drawn is None:
        return shown
    place, item = int(drawn.place * places), int(drawn.item * items)
    if item >= places:
        shown[place] = pool[item], step
    elif item != place:
        shown[place], shown[item] = (ordered[item], 2 * step), (ordered[place], 2 * step)
    return shown


def _numbers(request_id: str, what_for: bytes, count: int) -> list[int]:
    digest = hashlib.blake2b(request_id.encode(), digest_size=8 * count, person=what_for).digest()
    return [int.from_bytes(digest[at : at + 8], "big") for at in range(0, len(digest), 8)]
