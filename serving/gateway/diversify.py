"""A cap on what one category has of an answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")


def diversify(items: Sequence[ItemT], categories: Sequence[str], k: int, share: float) -> list[ItemT]:
    """The first k items, of which no category has more than `share`, as long as others are left.

    The items stay in their order; one that is over its category's cap waits, and comes at the end where there are too
    few others. It is the greedy re-ranking of Ziegler et al. (WWW 2005) with a cap for a measure of similarity, so
    that what is left out can be told in a sentence. An item without a category is under no cap.
    """
    most = max(1, math.ceil(k * share))
    taken: Counter[str] = Counter()
    chosen: list[ItemT] = []
    waiting: list[ItemT] = []
    for item, category in zip(items, categories, strict=True):
        if len(chosen) == k:
            break
        if category and taken[category] >= most:
            waiting.append(item)
            continue
        taken[category] += 1
        chosen.append(item)
    return [*chosen, *waiting[: k - len(chosen)]]
