"""The strings that a model knows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

# Tags of an item that count, the first ones.
TAGS = 6


class Vocabulary(BaseModel):
    """The strings that the model has an embedding for; place i of a list is index i + 1, 0 is unknown."""

    model_config = ConfigDict(extra="forbid")

    categories: list[str]
    tags: list[str]
    languages: list[str]
    devices: list[str]
    items: list[str]
