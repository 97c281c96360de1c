"""Recipes that ship with Belfry. Each file opens with the command that runs it and the metric to expect."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def shipped(name: str) -> Path:
    """The path of the recipe `name`, such as "demo"."""
    return Path(str(files(__name__) / f"{name}.yaml"))


def names() -> list[str]:
    """Of all recipes that ship."""
    return sorted(path.name.removesuffix(".yaml") for path in files(__name__).iterdir() if path.name.endswith(".yaml"))
