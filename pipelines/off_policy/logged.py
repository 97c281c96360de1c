"""The answers of a store that were partly left to chance, and what was wanted of them."""

from __future__ import annotations

import hashlib
import heapq
from typing import Any, NamedTuple

import orjson

from serving.events import Store
from serving.experiments.exposures import INTERLEAVED, read_clicks, read_slates


class Slate(NamedTuple):
    """An answer: items from the top, with the probability of each to stand there, and whether it was wanted."""

    request_id: str
    user_id: str
    at: int  # microseconds since 1970
    language: str
    device: str
    items: list[str]
    propensity: list[float]
    wanted: list[bool]


def explored_slates(store: Store, start: int, end: int, most: int) -> list[Slate]:
    """Answers of a model between two times (microseconds since 1970) in which something could have been another item.

    At most `most`: those whose request_id has the smallest hash, so that the same store gives the same answers. Left
    out are fallbacks, and interleaved answers, whose probabilities are not known.
    """
    chosen: list[tuple[int, str, Any]] = []
    for row in read_slates(store, start, end):
        if row.fallback is not None or f":{INTERLEAVED}" in (row.variant or ""):
            continue
        drawn = -int.from_bytes(hashlib.blake2b(row.request_id.encode(), digest_size=8).digest(), "big")
        if len(chosen) == most and drawn <= chosen[0][0]:
            continue
        if all(item[3] >= 1 for item in orjson.loads(row.items)):
            continue
        add = heapq.heappush if len(chosen) < most else heapq.heapreplace
        add(chosen, (drawn, row.request_id, row))
    clicks = read_clicks(store, start, end)
    found = []
    for *_, row in sorted(chosen, key=lambda each: (each[2].at, each[1])):
        items = orjson.loads(row.items)
        ids, wanted = [item[0] for item in items], clicks.get(row.request_id, {})
        found.append(
            Slate(
                row.request_id,
                row.user_id,
                row.at,
                row.language or "",
                row.device or "",
                ids,
                [float(item[3]) for item in items],
                [item in wanted for item in ids],
            )
        )
    return found
