"""Links of README, the guides and the notebooks lead somewhere, and what their text calls an option is one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pipelines.cli.app import app
from serving.model_server.flags import read_flags
from tests.docs.pages import PAGES, ROOT, prose

NOTEBOOKS = sorted(f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb"))
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# Options of others that the text names.
_OTHERS = {"--logdir", "--no-deps", "--kustomize"}


def text_of(page: str) -> str:
    """A page's words; of a notebook the cells that are Markdown."""
    if not page.endswith(".ipynb"):
        return prose(page)
    cells = json.loads((ROOT / page).read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS])
def test_every_link_leads_somewhere(page: str) -> None:
    for link in _LINK.findall(text_of(page)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        # Notebooks are a folder of their own: a tree without it is not asked for them.
        if target.suffix == ".ipynb" and not NOTEBOOKS:
            continue
        assert target.is_file(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


def test_every_guide_is_reached_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in _LINK.findall(text_of("README.md"))}
    assert linked >= {page for page in PAGES if page.startswith("docs/")}


def all_commands(found: Any, name: str = "belfry") -> Iterator[tuple[str, set[str]]]:
    """Each command of the command line with its options."""
    yield name, {"--help", *(option for each in found.params for option in (*each.opts, *each.secondary_opts))}
    for part, inner in getattr(found, "commands", {}).items():
        yield from all_commands(inner, f"{name} {part}")


COMMANDS = dict(all_commands(typer.main.get_command(app)))
_HELP = read_flags(["--help"])
COMMANDS["belfry model-server"] = set(_OPTION.findall(str(_HELP)))


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS])
def test_commands_and_options_that_the_text_names_exist(page: str) -> None:
    known = set().union(*COMMANDS.values()) | _OTHERS
    for code in (" ".join(each.split()) for each in _CODE.findall(text_of(page))):
        command = ""
        words = code.split()
        for count in range(1, len(words) + 1):
            if " ".join(words[:count]) in COMMANDS:
                command = " ".join(words[:count])
        if words and words[0] == "belfry":
            assert command != "belfry" or words[1:2] in ([], ["--help"]), f"{page}: there is no `{code}`"
        unknown = set(_OPTION.findall(code)) - (COMMANDS[command] if command else known)
        assert not unknown, f"{page}: `{code}`: {unknown}"


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_that_the_text_names_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {code.split()[1] for code in _CODE.findall(text_of(page)) if re.match(r"make [a-z-]+$", code)}
    if not NOTEBOOKS:
        named.discard("notebooks")
    assert named <= targets
