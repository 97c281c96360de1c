"""The word lists: what topics there are, and how each language writes about them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

LANGUAGES = ("en", "de", "fr", "es")
# Of articles and of users.
LANGUAGE_SHARES = (0.6, 0.16, 0.12, 0.12)


@dataclass(frozen=True)
class Wording:
    """How one language writes about one sub-topic. The strings hold the slots that `en.yaml` explains."""

    section: str  # of the topic
    titles: tuple[str, ...]
    things: tuple[str, ...]
    tails: tuple[str, ...]  # what may follow a title, with the space or comma before it
    sentences: tuple[str, ...]  # of this sub-topic
    background: tuple[str, ...]  # sentences of the topic and of any news


@dataclass(frozen=True)
class Language:
    """One language; `wording` has one entry per sub-topic, in the order of `Topics.subtopics`."""

    code: str
    leads: tuple[str, ...]  # what may stand before a title, with its colon
    wording: tuple[Wording, ...]


@dataclass(frozen=True)
class Topics:
    """The topics and sub-topics, the same in every language."""

    names: tuple[str, ...]
    subtopics: tuple[str, ...]
    topic_of: tuple[int, ...]  # place in `names`, by sub-topic


@functools.cache
def topics() -> Topics:
    """The topics, as English has them."""
    table = read_table("en")["topics"]
    names = tuple(table)
    pairs = [(names.index(topic), subtopic) for topic in names for subtopic in table[topic]["subtopics"]]
    return Topics(names, tuple(subtopic for _, subtopic in pairs), tuple(topic for topic, _ in pairs))


@functools.cache
def language(code: str) -> Language:
    """The word list of a language."""
    table = read_table(code)
    known = topics()
    wording = []
    for place, subtopic in zip(known.topic_of, known.subtopics, strict=True):
        topic = table["topics"][known.names[place]]
        words = topic["subtopics"][subtopic]
        wording.append(
            Wording(
                section=topic["section"],
                titles=tuple(words["titles"]),
                things=tuple(words["things"]),
                tails=(*(f", {tail}" for tail in topic["tails"]), *(_joined(tail) for tail in table["tails"])),
                sentences=tuple(words["sentences"]),
                background=(*topic["sentences"], *table["sentences"]),
            )
        )
    return Language(code, tuple(f"{lead}{table['colon']} " for lead in table["leads"]), tuple(wording))


def _joined(tail: str) -> str:
    return tail if tail.startswith(",") else f" {tail}"


def read_table(name: str) -> Any:
    """A YAML file of this package."""
    return yaml.safe_load(resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
