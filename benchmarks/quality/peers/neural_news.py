"""NRMS and LSTUR, trained on slates as published: one click against four items shown with it and not clicked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.quality.protocol import Fitted, Training, View
from pipelines.data.catalogue import places
from pipelines.data.histories import Interactions
from pipelines.judge import Slates
from pipelines.rankers import DotProduct, Queries

_TITLE, _HISTORY, _NEGATIVES = 20, 30, 4
_EPOCHS, _PATIENCE, _BATCH, _RATE = 12, 3, 32, 1e-3
_SEED = 42
_DAY = 86_400


@dataclass(frozen=True)
class Words:
    """The vocabularies of a training; place i of a list is index i + 1, 0 is unknown."""

    title: dict[str, int]
    category: list[str]
    tag: list[str]
    user: dict[str, int]

    @classmethod
    def of(cls, view: View) -> Words:
        counts = Counter(word for title in view.catalogue.title for word in _words(title))
        title = {word: row for row, word in enumerate(sorted(w for w, n in counts.items() if n > 1), start=1)}
        users = {str(name): row for row, name in enumerate(view.behaviour.interactions.user_ids, start=1)}
        return cls(title, _distinct(view.catalogue.category), _distinct(view.tag), users)

    def tables(self, view: View) -> dict[str, np.ndarray]:
        """The inputs of the items of a view, with a leading row of zeros."""
        title = np.zeros((len(view.catalogue) + 1, _TITLE), np.int32)
        for row, text in enumerate(view.catalogue.title, start=1):
            known = [self.title[word] for word in _words(text) if word in self.title][:_TITLE]
            title[row, : len(known)] = known
        return {
            "title": title,
            "category": places(view.catalogue.category, self.category),
            "tag": places(view.tag, self.tag),
        }


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _distinct(values: np.ndarray) -> list[str]:
    return sorted({str(value) for value in values if value})


@dataclass(frozen=True)
class NewsRanker(DotProduct):
    """A trained model over the items of a view."""

    name: str
    model: Any
    interactions: Interactions
    users: np.ndarray

    @cached_property
    def items(self) -> np.ndarray:
        return self._with_padding[1:]

    @cached_property
    def _with_padding(self) -> np.ndarray:
        from towers.runtime import keras

        rows = np.arange(self.model.item_rows)
        blocks = [
            keras.ops.convert_to_numpy(self.model.encode_items(rows[start : start + 512], training=False))
            for start in range(0, len(rows), 512)
        ]
        return np.concatenate(blocks)

    def embed(self, queries: Queries) -> np.ndarray:
        from towers.runtime import keras

        blocks = []
        for _, block in queries.blocks(256):
            history = histories(self.interactions, block.user, block.history_end)
            vectors = self._with_padding[history]
            user = self.model.encode_users(vectors, history > 0, self.users[block.user], training=False)
            blocks.append(keras.ops.convert_to_numpy(user))
        return np.concatenate(blocks)


def histories(log: Interactions, user: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(B, H) int32: the last events, oldest first and padded at the end; items are rows of the catalogue + 1."""
    start = np.maximum(log.user_offsets[user], end - _HISTORY)
    place = start[:, None] + np.arange(_HISTORY)
    inside = place < end[:, None]
    return np.where(inside, log.item[np.where(inside, place, 0)], 0).astype(np.int32)


def fit_nrms(training: Training) -> Fitted:
    """NRMS (Wu et al. 2019) on titles; word embeddings are learned, not GloVe's."""

    def build(tables: dict[str, np.ndarray], words: Words) -> Any:
        from benchmarks.quality.peers.neural_layers import Nrms

        return Nrms(tables, len(words.title) + 1)

    return _fit("NRMS", training, build)


def fit_lstur(training: Training) -> Fitted:
    """LSTUR-ini (An et al. 2019) on titles, categories and subcategories; word embeddings are learned."""

    def build(tables: dict[str, np.ndarray], words: Words) -> Any:
        from benchmarks.quality.peers.neural_layers import Lstur

        sizes = (words.title, words.category, words.tag, words.user)
        return Lstur(tables, *(len(each) + 1 for each in sizes))

    return _fit("LSTUR", training, build)


def _fit(name: str, training: Training, build: Callable[[dict[str, np.ndarray], Words], Any]) -> Fitted:
    """Train on all days but the last, which chooses the epoch."""
    from towers.runtime import keras, seed_everything

    seed_everything(_SEED)
    view, words = training.view, Words.of(training.view)
    days = view.behaviour.requests.at // _DAY
    last = training.requests & (days == days[training.requests].max())
    judge = Slates.of(view.behaviour, last, known_only=True)
    examples = Examples.of(view, training.requests & ~last)
    model = _built(build, view, words)
    model.compile(keras.optimizers.Adam(_RATE), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    best, weights, waited = -1.0, model.get_weights(), 0
    for epoch in range(_EPOCHS):
        inputs = examples.epoch(np.random.default_rng((_SEED, epoch)))
        model.fit(inputs, np.zeros(len(inputs["user"]), np.int32), batch_size=_BATCH, verbose=0)
        found = float(np.nanmean(judge.metrics(_ranker(name, model, view, words))["auc"]))
        if found > best:
            best, weights, waited = found, model.get_weights(), 0
        else:
            waited += 1
            if waited == _PATIENCE:
                break

    def over(other: View) -> NewsRanker:
        moved = _built(build, other, words)
        moved.set_weights(weights)
        return _ranker(name, moved, other, words)

    return Fitted(over, best)


def _built(build: Callable[[dict[str, np.ndarray], Words], Any], view: View, words: Words) -> Any:
    model = build(words.tables(view), words)
    model.item_rows = len(view.catalogue) + 1
    model(
        {
            "history": np.ones((2, _HISTORY), np.int32),
            "candidates": np.ones((2, 1 + _NEGATIVES), np.int32),
            "user": np.ones(2, np.int32),
        }
    )
    return model


def _ranker(name: str, model: Any, view: View, words: Words) -> NewsRanker:
    log = view.behaviour.interactions
    users = np.array([words.user.get(str(user), 0) for user in log.user_ids], np.int32)
    return NewsRanker(name, model, log, users)


@dataclass(frozen=True)
class Examples:
    """Clicks with the items that were shown with them and not clicked."""

    history: np.ndarray
    user: np.ndarray
    clicked: np.ndarray
    left: list[np.ndarray]

    @classmethod
    def of(cls, view: View, chosen: np.ndarray) -> Examples:
        slates = Slates.of(view.behaviour, chosen, known_only=True)
        request, clicked, left = [], [], []
        for row, (start, end) in enumerate(zip(slates.offsets[:-1], slates.offsets[1:], strict=True)):
            item, hit = slates.item[start:end], slates.clicked[start:end]
            if hit.any() and not hit.all():
                request += [row] * int(hit.sum())
                clicked += item[hit].tolist()
                left += [item[~hit]] * int(hit.sum())
        queries = slates.queries[np.array(request, np.int64)]
        history = histories(view.behaviour.interactions, queries.user, queries.history_end)
        return cls(history, (queries.user + 1).astype(np.int32), np.array(clicked, np.int32), left)

    def epoch(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """All examples in a new order with new negatives, the click first; drawn again where there are too few."""
        order = rng.permutation(len(self.clicked))
        drawn = [rng.choice(self.left[row], _NEGATIVES, replace=len(self.left[row]) < _NEGATIVES) for row in order]
        candidates = np.column_stack([self.clicked[order], np.array(drawn, np.int32)])
        return {"history": self.history[order], "candidates": candidates, "user": self.user[order]}
