"""What README and the guides show: their blocks, the commands in these, and their links."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# In a clone of one's own there may be more Markdown; these are what a user reads.
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+\.ya?ml)\n")
_ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command line that a page shows: words as a shell splits them, and variables set before them."""

    words: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return shlex.join(self.words)


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    return [Block(*each) for each in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))]


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))


def files(page: str) -> dict[str, str]:
    """The files that a page shows: blocks whose first line is a comment with the name."""
    found = {}
    for block in blocks(page):
        if block.language == "yaml":
            name = _FILE.match(block.text)
            assert name, f"{page}: a reader cannot tell which file this is (# NAME.yaml):\n{block.text}"
            found[name.group(1)] = block.text
    return found


def commands(text: str) -> list[Command]:
    """The commands of a console block. A line goes on while a quote is open or it ends in a backslash.

    Raises:
        ValueError: A line belongs to no command: blocks show commands alone.
    """
    found: list[Command] = []
    waiting = ""
    for line in text.splitlines():
        if not waiting and not line.startswith("$ "):
            raise ValueError(f"not a command: {line}")
        waiting += line.removeprefix("$ ") if not waiting else line
        if waiting.endswith("\\"):
            waiting = waiting[:-1]
            continue
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:
            waiting += "\n"
            continue
        waiting = ""
        found += _split(words)
    if waiting:
        raise ValueError(f"a quote is not closed: {waiting}")
    return found


def _split(words: list[str]) -> list[Command]:
    """At &&."""
    if "&&" in words:
        place = words.index("&&")
        return [*_split(words[:place]), *_split(words[place + 1 :])]
    environment = {}
    while words and _ASSIGNMENT.match(words[0]):
        name, _, value = words[0].partition("=")
        environment[name], words = value, words[1:]
    return [Command(tuple(words), environment)]
