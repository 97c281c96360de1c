"""The section `search`: which values of which keys `belfry tune` tries."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipelines.recipe.section import Section


class Range(Section):
    """Numbers from `low` to `high`, both among them; whole ones where both are, and no scale is logarithmic."""

    low: float | int
    high: float | int
    step: float | int | None = Field(None, description="between two values; null is every number")
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("a logarithmic scale needs a low above 0")
        if self.step is not None and (self.scale == "log" or not 0 < self.step <= self.high - self.low):
            raise ValueError("step is a distance within the range, of a linear scale")
        return self

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        numbers = (self.low, self.high, self.step or 1)
        return self.scale == "linear" and all(isinstance(number, int) for number in numbers)


Choices = Annotated[list[Any], Field(min_length=2)]

# By a key's path in the recipe, such as `towers.width` or, for a whole section, `fine_tuning`.
Search = dict[str, Range | Choices]
