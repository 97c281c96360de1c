"""The last of a bundle's gates: the edge server's own runtime answers the golden requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import Stopped
from pipelines.golden import TOLERANCE, Answers
from pipelines.quantisation.recommend import SIGNALS


def edge_answers(bundle: Path, requests: Sequence[dict[str, Any]], top_k: int) -> Answers:
    """What `serving.edge` recommends to golden requests, from a finished bundle."""
    from serving.edge.recommender import EdgeRecommender

    edge = EdgeRecommender(bundle)
    ids, scores = [], np.zeros((len(requests), top_k))
    for number, request in enumerate(requests):
        signals = (request[f"history_{name}"] for name in SIGNALS)
        found = edge.recommend(
            list(zip(request["history_ids"], *signals, strict=True)),
            language=request["language"],
            device=request["device"],
            time_seconds=request["time_seconds"],
            exclude=request["exclude_ids"],
        )
        ids.append([item for item, _ in found] + [""] * (top_k - len(found)))
        scores[number, : len(found)] = [score for _, score in found]
    return Answers(ids, scores)


def pass_edge_gate(
    bundle: Path,
    variant: str,
    requests: Sequence[dict[str, Any]],
    expected: Answers,
    simulated: Answers,
    tolerance: float | None,
) -> None:
    """Whether the runtime answers like the model that the bundle is of, within what the variant's rounding costs.

    Args:
        expected: The Python model's answers.
        simulated: Those of the same converted parts in NumPy, on which the variant was judged.
        tolerance: What the bundle says it keeps to; that of every float path where the variant is float32.

    Raises:
        Stopped: It does not; the message says where.
    """
    found = edge_answers(bundle, requests, expected.scores.shape[1])
    if variant == "float32":
        tolerance = TOLERANCE
    difference = simulated.difference(found)
    if difference is None and tolerance is not None:
        difference = expected.difference(found, tolerance)
    if difference is not None:
        raise Stopped(f"golden requests: the edge runtime does not answer like the model: {difference}.")
