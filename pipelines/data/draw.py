"""Draws by id that are the same in every process, whatever else there is to draw from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

_BYTES = 6  # what a float holds exactly


def drawn_places(ids: Iterable[str], seed: int) -> np.ndarray:
    """(N,) float64 in [0, 1), uniform over ids: those below a share are a draw of that share."""
    key = seed.to_bytes(16, "little")
    found = [
        int.from_bytes(hashlib.blake2b(each.encode("utf-8", "surrogatepass"), digest_size=_BYTES, key=key).digest())
        for each in ids
    ]
    return np.array(found, np.float64) / 2 ** (8 * _BYTES)
