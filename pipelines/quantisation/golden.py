"""The golden requests of a version, asked of a device's way to answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.golden import TOLERANCE, Answers
from pipelines.quantisation.facts import EdgeFacts
from pipelines.quantisation.recommend import SIGNALS, Recommendations

# Of scores, relative to the largest where that is above 1.
_STEPS = tuple(digit * 10.0**power for power in range(-4, 1) for digit in (1, 2, 5))


def answers(recommendations: Recommendations, facts: EdgeFacts, requests: Sequence[dict[str, Any]]) -> Answers:
    """What a device recommends to golden requests."""
    index = recommendations.index
    place = {item: row for row, item in enumerate(index.ids, start=1)}
    ids, scores = [], np.zeros((len(requests), facts.top_k))
    for number, request in enumerate(requests):
        allowed = index.on_offer.copy()
        allowed[[place.get(item, 0) for item in (*request["history_ids"], *request["exclude_ids"])]] = False
        best, score = recommendations.best(_row(facts, place, request), allowed, facts.top_k)
        ids.append([index.ids[row - 1] if row else "" for row in best])
        scores[number] = np.where(best > 0, score, 0.0)
    return Answers(ids, scores)


def _row(facts: EdgeFacts, place: dict[str, int], request: dict[str, Any]) -> dict[str, np.ndarray]:
    """A request as a row of a batch: the last known events, in their order."""
    known = [at for at, item in enumerate(request["history_ids"]) if item in place][-facts.history :]
    row: dict[str, np.ndarray] = {"history": np.zeros(facts.history, np.int32)}
    row["history"][: len(known)] = [place[request["history_ids"][at]] for at in known]
    for name in SIGNALS:
        row[name] = np.zeros(facts.history, np.float32)
        row[name][: len(known)] = np.array(request[f"history_{name}"], np.float32)[known]
    words = {"language": facts.vocabulary.languages, "device": facts.vocabulary.devices}
    for name, values in words.items():
        at = values.index(request[name]) + 1 if request[name] in values else 0
        row[name] = np.array(at, np.int32)
    row["time_seconds"] = np.array(request["time_seconds"], np.int64)
    return row


def tolerance(expected: Answers, found: Answers) -> float | None:
    """A tolerance within which `found` answers like `expected`, with a step to spare; None for none up to 5.

    An item of a nearly equal score may stand in another's place, so that the same ids come in nearly the same order.
    """
    for step, spare in zip(_STEPS, (*_STEPS[1:], None), strict=True):
        if expected.difference(found, step) is None:
            return TOLERANCE if step == TOLERANCE else spare
    return None


def golden_of(kept: dict[str, Any]) -> tuple[list[dict[str, Any]], Answers]:
    """Requests and answers from a version's `golden.json`."""
    return kept["requests"], Answers(kept["ids"], np.array(kept["scores"], np.float64))
