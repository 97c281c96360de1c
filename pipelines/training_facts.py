"""What metrics.json says of a training beside its course: how much there was to learn from, how much was learned."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.data.splits import Part
from pipelines.prepare import Prepared


def sizes_of(data: Prepared) -> dict[str, Any]:
    """What there is to learn from, and how it is divided."""
    parts = {
        part.name.lower(): {
            "requests": int((data.parts.requests == part).sum()),
            "positives": int((data.parts.interactions == part).sum()),
        }
        for part in Part
    }
    return {
        "items": len(data.catalogue),
        "users": len(data.behaviour.interactions.user_ids),
        "languages": len({each for each in data.catalogue.language if each}),
        "categories": len({each for each in data.catalogue.category if each}),
        "parts": parts,
    }


def weights_of(**stages: Any) -> dict[str, int]:
    """How many numbers of each Keras model are learned."""
    return {
        name: sum(int(np.prod(weight.shape)) for weight in stage.trainable_weights) for name, stage in stages.items()
    }
