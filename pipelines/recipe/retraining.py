"""The section `retraining`: what a champion is trained on again, and when its successor may be a candidate."""

from __future__ import annotations

from pydantic import Field

from pipelines.recipe.section import Section, Share


class Retraining(Section):
    """The window of fresh events, the replay of older ones, and the gate."""

    days: float = Field(14.0, gt=0, description="before now, whose events are fresh")
    replay: float = Field(0.5, ge=0, description="older examples trained on, at most, for each fresh one")
    window: Share = Field(0.2, gt=0, description="of the fresh examples, the newest, on which the gate judges")
    validation: Share = Field(0.1, description="of the fresh examples before these, for the choice of the epoch")
    tolerance: float = Field(0.01, ge=0, description="below the champion that the lead's interval may reach")
    slice_users: int = Field(50, ge=2, description="with a measurement, that a slice needs to have a say")
    refit: bool = Field(True, description="train what has passed once more on all, the newest window included")
