"""What a model knows of its inputs."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

# Of `towers.history.SIGNALS`, which only a process with TensorFlow can import.
Signal: TypeAlias = Literal["age", "dwell", "scroll"]
# Tags of an item that count, the first ones.
TAGS = 6


class Vocabulary(BaseModel):
    """The strings that the model has an embedding for; place i of a list is index i + 1, 0 is unknown.

    `unheard` are the signals of a history's events that the training log did not have.
    """

    model_config = ConfigDict(extra="forbid")

    categories: list[str]
    tags: list[str]
    languages: list[str]
    devices: list[str]
    items: list[str]
    unheard: list[Signal] = []
