"""A bundle for an edge server made straight from a served graph's parts, as small as tests and measurements want it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pipelines.quantisation.convert import to_litert
from pipelines.quantisation.freeze import freeze
from pipelines.quantisation.index import Index, float_rows, int8_rows, write_items
from towers.recommender import Recommender


def write_bundle(folder: Path, served: Recommender, *, version: str = "1", quantised: bool = False) -> None:
    """Convert a recommender's towers, and write them with its index as a bundle.

    The index of `served` becomes what the bundle's int8 rows stand for, so that both must give the same answers.

    Args:
        quantised: Whether weights are dynamic-range int8.
    """
    folder.mkdir(parents=True)
    variant = "dynamic_range" if quantised else "float32"
    served.embeddings.assign(float_rows(*int8_rows(served.embeddings.numpy())))
    files = {f"{name}.tflite": content for name, content in _models(served, variant).items()}
    words = {name: _values(table) for name, table in served.vocabularies.items()}
    plural = {"category": "categories", "tag": "tags", "language": "languages", "device": "devices", "item": "items"}
    files["vocabulary.json"] = json.dumps({plural[name.removesuffix("s")]: v for name, v in words.items()}).encode()
    encoder = served.towers.text
    tokenizer = None if encoder is None else encoder.preprocessor.tokenizer
    if tokenizer is not None:
        files["wordpiece.txt"] = "".join(f"{token}\n" for token in tokenizer.get_vocabulary()).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    write_items(folder / "items.npz", Index.of(served, served._tags))
    ranker = served.ranker
    manifest = {
        "format": 1,
        "model": "small",
        "version": version,
        "variant": variant,
        "history": served._history,
        "width": served.embeddings.shape[1],
        "top_k": served.top_k,
        "tags_kept": served._tags,
        "fields": served._fields,
        "tokens": None if encoder is None else encoder.max_tokens,
        "text": tokenizer
        and {
            "kind": "wordpiece",
            "lowercase": tokenizer.lowercase,
            "strip_accents": tokenizer.strip_accents,
            "special": {"pad": "[PAD]", "unknown": "[UNK]", "start": "[CLS]", "end": "[SEP]"},
        },
        "ranking": ranker and {"retrieve": ranker.retrieve, "tasks": list(ranker.tasks), "features": []},
        "source": {},
        "kept": {},
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _models(served: Recommender, variant: str) -> dict[str, bytes]:
    if served.edge is None:
        served.add_edge_functions()
    edge = served.edge
    assert edge is not None
    parts = {"user": edge.user, "content": edge.content, **({} if edge.rank is None else {"ranker": edge.rank})}
    return {name: to_litert(freeze(function), variant) for name, function in parts.items()}


def _values(table: Any) -> list[str]:
    keys, places = (each.numpy() for each in table.export())
    return [key.decode() for _, key in sorted(zip(places.tolist(), keys.tolist(), strict=True)) if key]
