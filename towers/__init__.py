"""Towers: the models, as Keras layers. No files, no network, no clock.

Two towers meet in one space of width D: a candidate tower for items (`ContentTower`, over texts that `TextEncoder` and
images that `ImageEncoder` encodes) and a query tower for users (`BehaviourTower`, over a history that a
`history_encoder` reads). `TwoTower` trains them together, `RankingTower` orders what they retrieve, and `Recommender`
is what is exported.

Shapes in names and in docstrings: B batch, H history, L tokens, D width, C candidates, K kept, N items, V vocabulary.

Importing this package is instant; TensorFlow loads with the first name that is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towers.adaptation import DomainHead, gradient_reversal
    from towers.behaviour import BehaviourTower
    from towers.content import ContentTower
    from towers.ensemble import EnsembleBehaviour, EnsembleContent
    from towers.features import ItemTable
    from towers.finetuning import LayerwiseAdamW, TextTop, layer_factors
    from towers.history import HistoryEncoder, WeightedMean
    from towers.history_encoders import AttentionPooling, CausalConvolutions, Recurrent, history_encoder
    from towers.image import ImageEncoder
    from towers.linear import LinearHistory, LinearItems
    from towers.masked_language_model import MaskedLanguageModel
    from towers.ranker import RankingTower
    from towers.recommender import Recommender
    from towers.retrieval import ExactIndex, ScannIndex
    from towers.runtime import limit_threads, seed_everything
    from towers.text import TextEncoder, TokenAttention
    from towers.transformer import CausalTransformer
    from towers.two_tower import TwoTower

# Each where it is: an import of the package loads none of them.
_HOMES = {
    "adaptation": (
        "DomainHead",
        "gradient_reversal",
    ),
    "behaviour": ("BehaviourTower",),
    "content": ("ContentTower",),
    "ensemble": (
        "EnsembleBehaviour",
        "EnsembleContent",
    ),
    "features": ("ItemTable",),
    "finetuning": (
        "LayerwiseAdamW",
        "TextTop",
        "layer_factors",
    ),
    "history": (
        "HistoryEncoder",
        "WeightedMean",
    ),
    "history_encoders": (
        "AttentionPooling",
        "CausalConvolutions",
        "Recurrent",
        "history_encoder",
    ),
    "image": ("ImageEncoder",),
    "linear": (
        "LinearHistory",
        "LinearItems",
    ),
    "masked_language_model": ("MaskedLanguageModel",),
    "ranker": ("RankingTower",),
    "recommender": ("Recommender",),
    "retrieval": (
        "ExactIndex",
        "ScannIndex",
    ),
    "runtime": (
        "limit_threads",
        "seed_everything",
    ),
    "text": (
        "TextEncoder",
        "TokenAttention",
    ),
    "transformer": ("CausalTransformer",),
    "two_tower": ("TwoTower",),
}
__all__ = [
    "AttentionPooling",
    "BehaviourTower",
    "CausalConvolutions",
    "CausalTransformer",
    "ContentTower",
    "DomainHead",
    "EnsembleBehaviour",
    "EnsembleContent",
    "ExactIndex",
    "HistoryEncoder",
    "ImageEncoder",
    "ItemTable",
    "LayerwiseAdamW",
    "LinearHistory",
    "LinearItems",
    "MaskedLanguageModel",
    "RankingTower",
    "Recommender",
    "Recurrent",
    "ScannIndex",
    "TextEncoder",
    "TextTop",
    "TokenAttention",
    "TwoTower",
    "WeightedMean",
    "gradient_reversal",
    "history_encoder",
    "layer_factors",
    "limit_threads",
    "seed_everything",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
