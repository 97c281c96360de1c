"""The section `adaptation`: what a model learns from the domains of items, clicked on or not."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.recipe.section import Section


class Adaptation(Section):
    """A head that tells the domain of an item from its embedding."""

    method: Literal["adversarial", "multi_task"] = Field(
        "adversarial", description="hide the domain from the head by gradient reversal, or help the head"
    )
    domain: Literal["language", "category"] = "language"
    target: str | None = Field(
        None, description="the domain without clicks, against all others; null is every value for itself"
    )
    weight: float = Field(0.1, ge=0, description="of the head's loss; 0 is no adaptation")
    strength: float = Field(1.0, gt=0, description="of the gradient reversal")
    units: int = Field(0, ge=0, le=1024, description="of the head's hidden layer; 0 is a linear head")
    learning_rate: float = Field(1e-2, gt=0, description="of the head")
    penalty: float = Field(0.1, ge=0, description="of the sum of the head's squared weights")
    items: int = Field(64, ge=2, le=4096, description="a step, as many of each domain")
