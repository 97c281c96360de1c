"""A bundle: the folder that holds all an edge server needs of one exported model. Read once, checked as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.edge.errors import BadBundle
from serving.edge.files import sha256_of
from serving.edge.items import Items, read_items
from serving.edge.litert import LiteRtModel
from serving.edge.manifest import Manifest
from serving.edge.wordpiece import Special, WordPiece

MANIFEST = "manifest.json"
_USER, _CONTENT, _RANKER = "user.tflite", "content.tflite", "ranker.tflite"
_ITEMS, _VOCABULARY, _WORDPIECE = "items.npz", "vocabulary.json", "wordpiece.txt"
_VOCABULARIES = ("category", "tag", "language", "device", "item")


@dataclass(frozen=True)
class Bundle:
    """An opened bundle whose files are all there, unchanged, and fit each other.

    Args:
        identity: A name for exactly these files.
        vocabularies: Of `category`, `tag`, `language`, `device` and `item`: index by value, from 1; 0 is unknown.
        tokenizer: Where the content model reads text.
        ranker: Where there is a second stage.
    """

    folder: Path
    identity: str
    manifest: Manifest
    vocabularies: dict[str, dict[str, int]]
    tokenizer: WordPiece | None
    items: Items
    user: LiteRtModel
    content: LiteRtModel
    ranker: LiteRtModel | None

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Read and check a bundle.

        Raises:
            BadBundle: It is not one, is of another format, has changed since it was written, or contradicts itself.
        """
        folder = Path(folder)
        identity, manifest = _manifest(folder)
        _check_files(folder, manifest)
        vocabularies = _vocabularies(folder / _VOCABULARY)
        tokenizer = _tokenizer(folder / _WORDPIECE, manifest)
        sizes = {"category": len(vocabularies["category"]), "tags": len(vocabularies["tag"])}
        items = read_items(folder / _ITEMS, width=manifest.width, tags_kept=manifest.tags_kept, sizes=sizes)
        shapes = _shapes(manifest)
        models = {name: _model(folder / name, *each) for name, each in shapes.items()}
        return cls(
            folder,
            identity,
            manifest,
            vocabularies,
            tokenizer,
            items,
            models[_USER],
            models[_CONTENT],
            models.get(_RANKER),
        )


def _manifest(folder: Path) -> tuple[str, Manifest]:
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise BadBundle(f"{folder} is not a bundle: it has no {MANIFEST}.") from None
    except OSError as error:
        raise BadBundle(f"{path} cannot be read: {error.strerror}.") from None
    return hashlib.sha256(raw).hexdigest()[:16], Manifest.read(path, _json(path, raw))


def _check_files(folder: Path, manifest: Manifest) -> None:
    needed = {_USER, _CONTENT, _ITEMS, _VOCABULARY}
    needed |= {_WORDPIECE} if manifest.text else set()
    needed |= {_RANKER} if manifest.ranking else set()
    for name in sorted(needed - set(manifest.files)):
        raise BadBundle(f"{folder} is incomplete: its manifest does not list {name}.")
    for name, checksum in manifest.files.items():
        path = folder / name
        try:
            same = sha256_of(path) == checksum
        except FileNotFoundError:
            raise BadBundle(f"{folder} is incomplete: {name} is missing.") from None
        except OSError as error:
            raise BadBundle(f"{path} cannot be read: {error.strerror}.") from None
        if not same:
            raise BadBundle(f"{path} is not the file that was written (its checksum differs): copy the bundle again.")


def _vocabularies(path: Path) -> dict[str, dict[str, int]]:
    lists = _json(path, path.read_bytes())
    names = {"category": "categories", "tag": "tags", "language": "languages", "device": "devices", "item": "items"}
    found = {}
    for name in _VOCABULARIES:
        values = lists.get(names[name]) if isinstance(lists, dict) else None
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise BadBundle(f"{path} has no list of strings named {names[name]}.")
        found[name] = {value: place for place, value in enumerate(values, start=1) if value}
    return found


def _tokenizer(path: Path, manifest: Manifest) -> WordPiece | None:
    text = manifest.text
    if text is None or manifest.tokens is None:
        return None
    try:
        # Not `splitlines`: a token may be one of Unicode's other line ends.
        tokens = path.read_bytes().decode().removesuffix("\n").split("\n")
        special = Special(**text.special)
        return WordPiece(
            tokens, manifest.tokens, lowercase=text.lowercase, strip_accents=text.strip_accents, special=special
        )
    except ValueError as error:
        raise BadBundle(f"{path} is not a vocabulary that can be used: {error}.") from None


_Shapes = dict[str, tuple[tuple[int, ...], Any]]


def _shapes(manifest: Manifest) -> dict[str, tuple[_Shapes, _Shapes]]:
    """Inputs and outputs of each LiteRT file."""
    length, width, tags = manifest.history, manifest.width, manifest.tags_kept
    whole, real = np.int32, np.float32
    embedding: _Shapes = {"embedding": ((1, width), real)}
    user: _Shapes = {"history": ((1, length, width), real)}
    user |= dict.fromkeys(("present", "age_seconds", "dwell_seconds", "scroll_depth"), ((1, length), real))
    user |= {"language": ((1,), whole), "device": ((1,), whole), "time_seconds": ((1,), np.int64)}
    content: _Shapes = dict.fromkeys(("category", "language", "item"), ((1,), whole)) | {"tags": ((1, tags), whole)}
    if manifest.text is not None and manifest.tokens is not None:
        texts = manifest.texts
        content |= dict.fromkeys(("token_ids", "padding_mask"), ((texts, manifest.tokens), whole))
        content |= {"known": ((texts, 1), real)}
    found = {_USER: (user, embedding), _CONTENT: (content, embedding)}
    if manifest.ranking is not None:
        found[_CONTENT] = (content, embedding | {"appeal": ((1,), real)})
        retrieved, tasks = manifest.ranking.retrieve, len(manifest.ranking.tasks)
        rows = 1 + length + retrieved
        ranker: _Shapes = {"user": ((1, width), real), "history": ((1, length), whole), "item": ((1, retrieved), whole)}
        ranker |= dict.fromkeys(("clicks", "click_rate", "age_hours"), ((1, retrieved), real))
        ranker |= {"embedding": ((rows, width), real), "category": ((rows,), whole)}
        ranker |= {"tags": ((rows, tags), whole), "appeal": ((rows,), real)}
        found[_RANKER] = (ranker, {"log_odds": ((1, retrieved, tasks), real), "score": ((1, retrieved), real)})
    return found


def _model(path: Path, inputs: _Shapes, outputs: _Shapes) -> LiteRtModel:
    model = LiteRtModel(path)
    # A converter may leave out an input that has no bearing, and a bundle may say more than it must.
    _agree(path, "input", model.inputs, inputs, set())
    _agree(path, "output", {name: each for name, each in model.outputs.items() if name in outputs}, outputs, outputs)
    return model


def _agree(path: Path, what: str, found: _Shapes, expected: _Shapes, needed: Iterable[str]) -> None:
    for name in sorted(set(needed) - set(found)):
        raise BadBundle(f"{path} has no {what} {name!r}, which the manifest implies.")
    for name, (shape, kind) in found.items():
        if name not in expected:
            raise BadBundle(f"{path} has an {what} {name!r} that this version of Belfry does not know: update it.")
        wanted, wanted_kind = expected[name]
        if shape != wanted or np.dtype(kind) != np.dtype(wanted_kind):
            raise BadBundle(
                f"{path} has an {what} {name!r} of {np.dtype(kind)} {shape}, where the manifest implies "
                f"{np.dtype(wanted_kind)} {wanted}."
            )


def _json(path: Path, raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise BadBundle(f"{path} is not valid JSON.") from None
