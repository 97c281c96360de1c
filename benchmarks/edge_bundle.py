"""A bundle for an edge server made straight from a served graph's parts, as small as tests and measurements want it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from towers.ranking_features import Candidates, RankedItems, ranking_features
from towers.recommender import Recommender
from towers.runtime import tf


def int8_rows(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) float32 to int8 and a scale for each row."""
    scale = (np.abs(embeddings).max(axis=1) / 127).astype(np.float32)
    rounded = np.round(embeddings / np.where(scale > 0, scale, 1)[:, None])
    return np.clip(rounded, -127, 127).astype(np.int8), scale


def converted(function: Any, optimisations: list[Any], **inputs: Any) -> bytes:
    """A LiteRT file of a function from named tensors of fixed shape to a dict, its variables frozen."""
    # It has no public name.
    from tensorflow.python.framework import convert_to_constants  # noqa: TID251

    specs = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()}
    concrete = tf.function(function, autograph=False).get_concrete_function(**specs)
    frozen = convert_to_constants.convert_variables_to_constants_v2(concrete)
    places = [argument.name.split(":")[0] for argument in frozen.inputs]
    outputs = sorted(concrete.structured_outputs)

    @tf.function(input_signature=[specs[place] for place in places], autograph=False)
    def named(*values: Any) -> dict[str, Any]:
        return dict(zip(outputs, frozen(*values), strict=True))

    module = tf.Module()
    module.named = named
    converter = tf.lite.TFLiteConverter.from_concrete_functions([named.get_concrete_function()], module)
    converter.optimizations = optimisations
    return bytes(converter.convert())


def write_bundle(folder: Path, served: Recommender, *, version: str = "1", quantised: bool = False) -> None:
    """Convert a recommender's towers, and write them with its index as a bundle.

    The index of `served` becomes what the bundle's int8 rows stand for, so that both must give the same answers.

    Args:
        quantised: Whether weights are dynamic-range int8.
    """
    folder.mkdir(parents=True)
    embedding, scale = int8_rows(served.embeddings.numpy()[1:])
    served.embeddings.assign(np.concatenate([np.zeros((1, embedding.shape[1])), embedding * scale[:, None]]))
    files = {f"{name}.tflite": content for name, content in _models(served, quantised).items()}
    words = {name: _values(table) for name, table in served.vocabularies.items()}
    plural = {"category": "categories", "tag": "tags", "language": "languages", "device": "devices", "item": "items"}
    files["vocabulary.json"] = json.dumps({plural[name.removesuffix("s")]: v for name, v in words.items()}).encode()
    encoder = served.towers.text
    tokenizer = None if encoder is None else encoder.preprocessor.tokenizer
    if tokenizer is not None:
        files["wordpiece.txt"] = "".join(f"{token}\n" for token in tokenizer.get_vocabulary()).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    np.savez(folder / "items.npz", embedding=embedding, scale=scale, **_columns(served))
    ranker = served.ranker
    manifest = {
        "format": 1,
        "model": "small",
        "version": version,
        "variant": "dynamic_range" if quantised else "float32",
        "history": served._history,
        "width": embedding.shape[1],
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


def _models(served: Recommender, quantised: bool) -> dict[str, bytes]:
    towers, length, width = served.towers, served._history, served.embeddings.shape[1]
    optimisations = [tf.lite.Optimize.DEFAULT] if quantised else []
    signals = ("present", "age_seconds", "dwell_seconds", "scroll_depth")

    def user(**given: Any) -> dict[str, Any]:
        return {"embedding": towers.behaviour({**given, "present": given["present"] > 0}, training=False)}

    def content(token_ids: Any = None, padding_mask: Any = None, known: Any = None, **given: Any) -> dict[str, Any]:
        if token_ids is not None:
            tokens = {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": tf.zeros_like(token_ids)}
            given["text"] = towers.text(tokens) * known
        return {"embedding": towers.content(given, training=False)}

    text: dict[str, Any] = {}
    if towers.text is not None:
        text = dict.fromkeys(("token_ids", "padding_mask"), ((1, towers.text.max_tokens), tf.int32))
        text["known"] = ((1, 1), tf.float32)
    found = {
        "user": converted(
            user,
            optimisations,
            history=((1, length, width), tf.float32),
            **dict.fromkeys(signals, ((1, length), tf.float32)),
            **dict.fromkeys(("language", "device"), ((1,), tf.int32)),
            time_seconds=((1,), tf.int64),
        ),
        "content": converted(
            content,
            optimisations,
            **text,
            **dict.fromkeys(("category", "language", "item"), ((1,), tf.int32)),
            tags=((1, served._tags), tf.int32),
        ),
    }
    ranker = served.ranker
    if ranker is None:
        return found

    def judge(**given: Any) -> dict[str, Any]:
        candidates = Candidates(given["item"], given["clicks"], given["click_rate"], given["age_hours"])
        items = RankedItems(given["embedding"], given["category"], given["tags"], given["appeal"])
        features = ranking_features(given["user"], given["history"], candidates, items)
        rows = tf.gather(given["embedding"], given["item"])
        log_odds = ranker._kept.tower.log_odds({"features": features, "user": given["user"], "items": rows})
        return {"log_odds": log_odds, "score": ranker.score(log_odds)}

    rows = 1 + length + ranker.retrieve
    found["ranker"] = converted(
        judge,
        [],
        user=((1, width), tf.float32),
        history=((1, length), tf.int32),
        item=((1, ranker.retrieve), tf.int32),
        **dict.fromkeys(("clicks", "click_rate", "age_hours"), ((1, ranker.retrieve), tf.float32)),
        embedding=((rows, width), tf.float32),
        category=((rows,), tf.int32),
        tags=((rows, served._tags), tf.int32),
        appeal=((rows,), tf.float32),
    )
    return found


def _columns(served: Recommender) -> dict[str, np.ndarray]:
    ids = [item.decode() for item in served.item_ids.numpy()[1:]]
    count, ranker = len(ids), served.ranker
    kinds = {"appeal": "f4", "clicks": "f4", "click_rate": "f4", "published_at": "i8", "category": "i4"}
    columns = {name: np.zeros(count, kind) for name, kind in kinds.items()}
    columns["tags"] = np.zeros((count, served._tags), np.int32)
    if ranker is not None:
        columns = {name: getattr(ranker, name).numpy()[1:] for name in columns}
    letters = [item.encode() for item in ids]
    offsets = np.cumsum([0, *map(len, letters)], dtype=np.int64)
    text = np.frombuffer(b"".join(letters), np.uint8)
    return {**columns, "ids": text, "id_offsets": offsets, "on_offer": served.on_offer.numpy()[1:]}


def _values(table: Any) -> list[str]:
    keys, places = (each.numpy() for each in table.export())
    return [key.decode() for _, key in sorted(zip(places.tolist(), keys.tolist(), strict=True)) if key]
