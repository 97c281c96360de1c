"""Invented people, organisations and towns. Each sub-topic has its own people and organisations, who recur."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipelines.data.sources.newsroom.language import Topics, read_table


@dataclass(frozen=True)
class Entities:
    """All names in one list. Sub-topic s has the people `people[s] : people[s + 1]` of it, organisations likewise."""

    names: np.ndarray  # (E,) str
    people: np.ndarray  # (S + 1,)
    organisations: np.ndarray  # (S + 1,)
    towns: tuple[int, int]  # first and behind the last


def invent(topics: Topics, rng: np.random.Generator, *, per_subtopic: int, towns: int) -> Entities:
    """Make up `per_subtopic` people and as many organisations for each sub-topic, and `towns` towns."""
    maker = _Maker(rng)
    names: list[str] = [maker.place() for _ in range(towns)]
    subtopics = len(topics.subtopics)
    people = len(names) + np.arange(subtopics + 1) * per_subtopic
    names += [maker.person() for _ in range(subtopics * per_subtopic)]
    organisations = len(names) + np.arange(subtopics + 1) * per_subtopic
    for topic in topics.topic_of:
        names += [maker.organisation(topics.names[topic]) for _ in range(per_subtopic)]
    return Entities(np.array(names, dtype=object), people, organisations, (0, towns))


class _Maker:
    """Makes names, never the same twice."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.table = read_table("names")
        self.first_names = [name for line in self.table["first_names"] for name in line]
        self.used: set[str] = set()

    def place(self) -> str:
        return self._new(lambda: self._word("place_ends"))

    def person(self) -> str:
        return self._new(lambda: f"{self._one(self.first_names)} {self._word('surname_ends')}")

    def organisation(self, topic: str) -> str:
        pattern = self._one(self.table["organisations"][topic])
        return self._new(lambda: pattern.format(place=self._word("place_ends"), name=self._word("company_ends")))

    def _new(self, make: Callable[[], str]) -> str:
        while (name := make()) in self.used:
            pass
        self.used.add(name)
        return name

    def _word(self, ends: str) -> str:
        table = self.table
        return "".join(self._one(table[part]) for part in ("onsets", "nuclei", "middles", ends))

    def _one(self, choices: list[str]) -> str:
        return choices[int(self.rng.integers(len(choices)))]
