"""The folder that a device reads (format 1): parts in LiteRT, items in int8, strings, and a manifest with checksums."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipelines.artefacts import atomic_folder, read_json, sha256_of, write_json
from pipelines.export_gate import EXTRA, GOLDEN, MANIFEST
from pipelines.quantisation.facts import FORMAT, EdgeFacts
from pipelines.quantisation.index import Index, write_items
from pipelines.saved_model import versions

VOCABULARY, WORDPIECE, ITEMS = "vocabulary.json", "wordpiece.txt", "items.npz"


def write_bundle(
    folder: Path,
    version: Path,
    variant: str,
    parts: Path,
    facts: EdgeFacts,
    index: Index,
    kept: dict[str, float],
    tolerance: float | None,
) -> None:
    """Write a variant of an exported version into the new `folder`; the same version gives the same bytes.

    Args:
        parts: Where the converted `.tflite` files are.
        kept: Recall kept and change of nDCG against float32.
        tolerance: Within which the device answers the golden requests as the version does; None for none.
    """
    folder.mkdir(parents=True)
    for path in sorted(parts.glob("*.tflite")):
        shutil.copyfile(path, folder / path.name)
    words = facts.vocabulary.model_dump()
    write_json(folder / VOCABULARY, words)
    if facts.text is not None:
        (folder / WORDPIECE).write_text("".join(f"{token}\n" for token in facts.text.vocabulary), encoding="utf-8")
    write_items(folder / ITEMS, index, exact=variant == "float32")
    golden = read_json(version / EXTRA / GOLDEN)
    write_json(folder / GOLDEN, golden | {"tolerance": tolerance})
    source = read_json(version / EXTRA / MANIFEST)
    source.pop("files")
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "model": version.parent.name,
        "version": int(version.name) if version.name.isdecimal() else version.name,
        "variant": variant,
        **facts.model_dump(include={"history", "width", "top_k", "tags_kept", "fields", "tokens"}),
        "text": None if facts.text is None else facts.text.model_dump(exclude={"vocabulary"}),
        "ranking": None if facts.ranking is None else facts.ranking.model_dump(),
        "source": source,
        "kept": kept,
        "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
    }
    write_json(folder / MANIFEST, manifest)


def publish(bundle: Path, to: Path) -> Path:
    """Copy a bundle to the next number below `to`, where `belfry edge` finds it, whole or not at all."""
    target = to / str(max(versions(to), default=0) + 1)
    with atomic_folder(target) as draft:
        shutil.copytree(bundle, draft, dirs_exist_ok=True)
    return target


def size_of(folder: Path) -> int:
    """Bytes of a bundle."""
    return sum(path.stat().st_size for path in folder.iterdir())
