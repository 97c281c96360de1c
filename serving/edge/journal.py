"""What was added and removed on the box, on disk before it is acknowledged."""

from __future__ import annotations

import base64
import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from serving.edge.files import sync_folder, write_atomically

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Article:
    """What is known of an item, as an editor gives it; what is not known is empty, 0 or none.

    Args:
        published_at: Whole seconds since 1970, UTC.
    """

    title: str = ""
    body: str = ""
    language: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    published_at: int = 0


@dataclass(frozen=True)
class Entry:
    """One item put or removed.

    Args:
        article: None for an item of the bundle's, which can only be removed.
        put_on: The identity of the bundle that was served then.
        encoded_by: The identity of the bundle whose model made `embedding` (D,) float32 and `appeal`.
    """

    item: str
    article: Article | None
    put_on: str = ""
    encoded_by: str = ""
    embedding: np.ndarray | None = None
    appeal: float = 0.0
    on_offer: bool = True


class Journal:
    """A file of one JSON line for each change; only the last one of an item counts.

    A line that was cut off by a crash was never acknowledged, and is left out; so is one that is damaged, and the log
    says so. The file is written anew when half of it is out of date.

    Args:
        path: The file; None keeps changes in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}
        self._lines = 0
        if path is not None and path.exists():
            self._read(path)

    @property
    def entries(self) -> list[Entry]:
        """The last change of each item, the oldest first."""
        return list(self._entries.values())

    def append(self, entry: Entry) -> None:
        """Record a change. It is on disk when this returns."""
        if self._path is not None:
            line = _line(entry)
            known = self._path.exists()
            with self._path.open("ab") as file:
                start = file.tell()
                try:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    # A full disk must not leave half a line for the next one to be glued to.
                    os.truncate(self._path, start)
                    raise
            if not known:
                sync_folder(self._path.parent)
            self._lines += 1
        self._keep(entry)
        if self._lines > 2 * len(self._entries) + 16:
            self.rewrite(self.entries)

    def rewrite(self, entries: list[Entry]) -> None:
        """Replace the whole file at once."""
        self._entries = {entry.item: entry for entry in entries}
        if self._path is not None:
            write_atomically(self._path, b"".join(map(_line, entries)))
            self._lines = len(entries)

    def _keep(self, entry: Entry) -> None:
        self._entries.pop(entry.item, None)
        self._entries[entry.item] = entry

    def _read(self, path: Path) -> None:
        damaged = 0
        raw = path.read_bytes()
        *lines, rest = raw.split(b"\n")
        for line in lines:
            try:
                self._keep(_entry(json.loads(line)))
            except (ValueError, KeyError, TypeError):
                damaged += 1
        self._lines = len(lines)
        if damaged:
            _log.warning("%s: %d of %d lines are damaged and left out.", path, damaged, len(lines))
        if rest or damaged:
            if damaged:
                write_atomically(path.with_suffix(".damaged"), raw)
            self.rewrite(self.entries)


def re_encoded(entry: Entry, by: str, embedding: np.ndarray, appeal: float) -> Entry:
    """The same change with what another bundle's model makes of it."""
    return replace(entry, encoded_by=by, embedding=embedding, appeal=appeal)


def _line(entry: Entry) -> bytes:
    value: dict[str, Any] = {"item": entry.item, "put_on": entry.put_on, "on_offer": entry.on_offer}
    if entry.article is not None:
        value["article"] = {**vars(entry.article), "tags": list(entry.article.tags)}
    if entry.embedding is not None:
        value |= {
            "encoded_by": entry.encoded_by,
            "embedding": base64.b64encode(entry.embedding.astype("<f4").tobytes()).decode(),
            "appeal": entry.appeal,
        }
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _entry(value: dict[str, Any]) -> Entry:
    article = None
    if "article" in value:
        article = Article(**{**value["article"], "tags": tuple(value["article"]["tags"])})
    embedding = None
    if "embedding" in value:
        embedding = np.frombuffer(base64.b64decode(value["embedding"], validate=True), "<f4").astype(np.float32)
    return Entry(
        str(value["item"]),
        article,
        value["put_on"],
        value.get("encoded_by", ""),
        embedding,
        float(value.get("appeal", 0.0)),
        value["on_offer"],
    )
