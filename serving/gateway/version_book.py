"""Which versions of the model there are, and how that is changed, as a gateway is told by whoever started it.

A registry is a trainer's affair, which serving knows nothing of: this is all that it needs of one.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class BadChange(ValueError):
    """A change that the book refuses; the message is one sentence."""


class VersionChange(NamedTuple):
    """A version's new state. `at` is microseconds since 1970."""

    version: int
    state: str
    at: int
    why: str


class Versions(NamedTuple):
    """All versions of one model.

    Args:
        states: By version, such as candidate, canary, champion or retired.
        labels: Versions by the labels under which they are loaded.
        before: The champion before this one, where a rollback leads.
        history: How it came to that, the earliest first.
    """

    states: dict[int, str]
    labels: dict[str, int]
    before: int | None
    history: list[VersionChange]


class VersionBook(Protocol):
    """What a registry of one model can do. Its calls block; who changes something gets BadChange where it cannot be."""

    def versions(self) -> Versions: ...

    def promote(self, version: int, why: str) -> None: ...

    def retire(self, version: int, why: str) -> None: ...

    def roll_back(self, why: str) -> int: ...
