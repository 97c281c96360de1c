"""Tiny presets of every kind of backbone that a text encoder may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from towers.runtime import keras_hub
from towers.text import TextEncoder

WORDS = "storm closes the harbour and ferry minister vote budget goal in cup match after rain"
SIZES = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16, "dropout": 0.0}


@pytest.fixture(scope="session")
def presets(tiny_preset: str, multilingual_preset: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny preset of every kind of backbone."""
    models = keras_hub.models
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    pieces = {each: place for place, each in enumerate(["<s>", "<pad>", "</s>", "<mask>"])}
    for each in [*"abcdefghijklmnopqrstuvwxyzĠ", "Ġs"]:
        pieces[each] = len(pieces)
    made = {
        "distilbert": (
            models.DistilBertBackbone(vocabulary_size=len(words), **SIZES),
            models.DistilBertTokenizer(vocabulary=words),
        ),
        "roberta": (
            models.RobertaBackbone(vocabulary_size=len(pieces), **SIZES),
            models.RobertaTokenizer(vocabulary=pieces, merges=["Ġ s"]),
        ),
    }
    found = {"bert": tiny_preset, "xlm-r": multilingual_preset}
    for name, parts in made.items():
        folder: Path = tmp_path_factory.mktemp("presets") / name
        for part in parts:
            part.save_to_preset(str(folder))
        found[name] = str(folder)
    return found


@pytest.fixture(params=["bert", "distilbert", "roberta", "xlm-r"])
def any_encoder(request: pytest.FixtureRequest, presets: dict[str, str]) -> TextEncoder:
    return TextEncoder(presets[request.param], max_tokens=24)
