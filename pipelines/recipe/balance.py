"""The section `balance`: what training adds for the classes of items that the log has little of."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.recipe.section import Section, Share


class Fill(Section):
    """How far a thin class is filled up."""

    to: float = Field(0.5, gt=0, le=1, description="share of another class's positives up to which a class is filled")
    of: Literal["largest", "median"] = Field("largest", description="which class that is")
    most: float = Field(5.0, gt=0, le=1000, description="added to a class at most, times its own positives")


class Upsample(Fill):
    """Positives of thin classes are repeated."""


class Synthetic(Fill):
    """Text vectors between those of a thin class's items, each a view of the item that it is nearest to."""

    method: Literal["smote", "borderline_smote", "adasyn", "smote_enn"] = Field(
        "smote",
        description="between any two of a class (smote), where it meets others (borderline_smote, adasyn), or without "
        "those whose neighbours are of other classes (smote_enn)",
    )
    neighbours: int = Field(
        5, ge=1, le=100, description="of an item of the class, one of which is drawn; fewer where it has fewer"
    )


class Simulated(Section):
    """Interactions that thin segments did not have, but might have had."""

    segment: Literal["users", "classes"] = Field(
        "users", description="users of few positives, or the positives of thin classes of items"
    )
    events: int = Field(3, ge=1, description="positives in training that a user of few has at most")
    below: float = Field(0.25, gt=0, le=1, description="share of the largest class's positives below which one is thin")
    each: int = Field(1, ge=1, le=100, description="simulated for each positive of the segment")
    neighbours: int = Field(
        10, ge=1, le=1000, description="most similar items in its language, of which they are drawn"
    )
    weight: float = Field(0.3, gt=0, le=1, description="of a simulated positive, relative to the one it came from")


class Balance(Section):
    """Classes of items, and what is done for the thin ones; each step is off unless it is named.

    It is for the towers: specialists of an ensemble, the linear model and the second stage learn from the log alone.
    """

    by: Literal["category", "language", "popularity"] = Field(
        "popularity", description="what the classes are; popularity is head and tail"
    )
    head: Share = Field(0.8, description="share of the training positives that the head's items have")
    weights: float = Field(
        0.0, ge=0, le=1, description="losses count by the inverse frequency of the class to this power, mean 1"
    )
    upsample: Upsample | None = None
    synthetic: Synthetic | None = None
    simulated: Simulated | None = None

    @property
    def by_class(self) -> bool:
        """Whether a step asks for the classes."""
        segments = self.simulated is not None and self.simulated.segment == "classes"
        return bool(self.weights) or self.upsample is not None or self.synthetic is not None or segments
