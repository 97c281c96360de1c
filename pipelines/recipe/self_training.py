"""The section `self_training`: what the towers learn from requests of which no event says what became of them."""

from __future__ import annotations

from pydantic import Field

from pipelines.recipe.section import Section, Share


class SelfTraining(Section):
    """The trained towers label what such requests showed, and are trained again from the start on both."""

    confidence: Share = Field(
        0.5, description="above which an item counts as clicked: its probability, had the request a click"
    )
    weight: float = Field(0.5, gt=0, le=1, description="of a pseudo-label's loss, beside 1 of a label's")
    most: float = Field(1.0, gt=0, le=100, description="pseudo-labels for each labelled positive, the surest first")
    rounds: int = Field(
        1,
        ge=1,
        le=10,
        description="in each, the student of the one before is the teacher; the first that fails ends it",
    )
