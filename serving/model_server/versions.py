"""Versions on disk: which there are, whether one is complete, and the states one goes through in the server."""

from __future__ import annotations

import enum
import os
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from serving.model_server.errors import Code

_INT64_MAX = 2**63 - 1


class State(enum.IntEnum):
    """A version's life; the numbers are `tensorflow.serving.ModelVersionStatus.State`'s."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """What the status call tells about one version. A failed load shows its code and message."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


def scan(base_path: Path) -> dict[int, Path] | None:
    """Find the version folders under `base_path`: names that are a non-negative int64, zero padding allowed.

    Returns:
        Folders by version, or None when `base_path` cannot be read: a share that is away for a moment must not look
        like a model whose versions were all deleted.
    """
    found: dict[int, Path] = {}
    try:
        with os.scandir(base_path) as entries:
            # Sorted, so that of `7` and `007` the same one is served every time.
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.isascii() and entry.name.isdecimal() and entry.is_dir():
                    number = int(entry.name)
                    if number <= _INT64_MAX:
                        found[number] = Path(entry.path)
    except OSError:
        return None
    return found


def is_complete(folder: Path) -> bool:
    """Whether the graph is there. A folder without it is still being written, or no SavedModel."""
    return (folder / "saved_model.pb").is_file() or (folder / "saved_model.pbtxt").is_file()


def fingerprint(folder: Path) -> Hashable:
    """Names, sizes and times of a version's files: a failed version is worth another try once this changes."""
    marks: list[tuple[str, int, int]] = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            try:
                facts = os.stat(path)
            except OSError:
                continue
            marks.append((path, facts.st_size, facts.st_mtime_ns))
    return tuple(sorted(marks))
