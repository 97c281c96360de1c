"""Who sees which variant: decided by a hash, so that no table is needed and every replica agrees."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

_STEPS = 2**64


def place(salt: str, user_id: str) -> float:
    """A user's place from 0 to 1 (never 1), uniform over users; another salt shuffles them anew."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=8, key=hashlib.blake2b(salt.encode()).digest()).digest()
    # Of the 64 bits, as many as a float can tell apart.
    return (int.from_bytes(digest, "big") >> 11) / (_STEPS >> 11)


@dataclass(frozen=True)
class Split:
    """How an experiment divides its users.

    Experiments of one layer take disjoint ranges of the same places, so that nobody is in two of them; experiments of
    different layers are independent. Of its range, an experiment takes the part from the start that the ramp says: who
    was in stays in while it grows. Within it, variants are drawn by a hash of the experiment's own.

    Args:
        name: Of the experiment; its salt, so that it must not be used twice.
        layer: Salt of the places.
        start, end: The range, from 0 to 1.
        shares: By variant; they sum to 1.
        ramp: The part of the range that is in, from 0 to 1.

    Raises:
        ValueError: The range or the shares make no sense.
    """

    name: str
    layer: str
    start: float
    end: float
    shares: dict[str, float]
    ramp: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(f"{self.name}: the range is from 0 to 1, and not empty: [{self.start}, {self.end}).")
        if len(self.shares) < 2 or min(self.shares.values()) <= 0 or abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError(f"{self.name}: two variants or more have shares above 0 that sum to 1.")
        if not 0 <= self.ramp <= 1:
            raise ValueError(f"{self.name}: the ramp is from 0 to 1, not {self.ramp}.")

    def variant(self, user_id: str) -> str | None:
        """The user's variant, or None for whoever is not in the experiment."""
        at = place(f"layer {self.layer}", user_id)
        if not self.start <= at < self.start + self.ramp * (self.end - self.start):
            return None
        drawn = place(f"experiment {self.name}", user_id)
        names = list(self.shares)
        ends = itertools.accumulate(self.shares.values())
        # The shares may sum to a little less than 1.
        return next((name for name, end in zip(names, ends, strict=True) if drawn < end), names[-1])


def overlapping(splits: list[Split]) -> tuple[str, str] | None:
    """Two experiments of one layer that share users, or None."""
    for one, other in itertools.combinations(splits, 2):
        if one.layer == other.layer and one.start < other.end and other.start < one.end:
            return one.name, other.name
    return None
