"""Where the time of a training step goes: its parts, each run alone on the same batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Runs before the clock counts: tracing, and the allocator's first pages.
_WARM = 2


@dataclass(frozen=True)
class Share:
    """A part of an epoch, and whether it pays these milliseconds in every step or once."""

    name: str
    milliseconds: float
    per_step: bool = True


def milliseconds(part: Callable[[Any], Any], batches: Sequence[Any]) -> float:
    """Median time of `part` over the batches, the first ones once more beforehand."""
    spent = []
    warm = batches[:_WARM]
    for batch in [*warm, *batches]:
        start = time.perf_counter()
        part(batch)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent[len(warm) :])) * 1000


def table(shares: Sequence[Share], *, steps: int, seconds: float) -> str:
    """One line a part, in milliseconds a step, beside what an epoch of `steps` took by the clock."""
    by_step = [(share.name, share.milliseconds / (1 if share.per_step else steps)) for share in shares]
    whole = seconds / steps * 1000
    rows = [*by_step, ("all parts", sum(value for _, value in by_step)), ("measured in the last epoch", whole)]
    return "\n".join(f"    {name:58} {value:7.1f} ms a step  {value / whole:4.0%}" for name, value in rows)
