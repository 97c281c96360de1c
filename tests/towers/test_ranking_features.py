"""Features of the second stage against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from towers.ranking_features import FEATURES, Candidates, RankedItems, ranking_features
from towers.runtime import tf

ITEMS, WIDTH = 9, 5


def case(rows: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    embedding = rng.normal(size=(ITEMS + 1, WIDTH)).astype(np.float32)
    embedding[0] = 0
    tags = rng.integers(0, 4, size=(ITEMS + 1, 2)).astype(np.int32)
    tags[0] = 0
    category = (np.arange(ITEMS + 1) % 4).astype(np.int32)
    history = np.array([[1, 2, 3, 4], [5, 0, 0, 0], [0, 0, 0, 0]], np.int32)
    item = np.array([[5, 6, 0], [5, 1, 9], [2, 3, 4]], np.int32)
    return {
        "embedding": embedding,
        "category": category,
        "tags": tags,
        "appeal": rng.normal(size=ITEMS + 1).astype(np.float32),
        "user": rng.normal(size=(3, WIDTH)).astype(np.float32)[:rows],
        "history": history[:rows],
        "item": item[:rows],
        "clicks": np.array([[0, 3, 0], [1, 0, 8], [2, 2, 2]], np.float32)[:rows],
        "click_rate": rng.normal(size=(3, 3)).astype(np.float32)[:rows],
        "age_hours": np.array([[0, 3, -1], [1, -1, 8], [2, 2, 2]], np.float32)[:rows],
    }


def features(given: dict[str, np.ndarray]) -> np.ndarray:
    items = RankedItems(*(tf.constant(given[name]) for name in ("embedding", "category", "tags", "appeal")))
    candidates = Candidates(*(tf.constant(given[name]) for name in ("item", "clicks", "click_rate", "age_hours")))
    return np.asarray(ranking_features(tf.constant(given["user"]), tf.constant(given["history"]), candidates, items))


def unit(vector: np.ndarray) -> Any:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def test_every_feature_is_what_it_says() -> None:
    given = case()
    found = features(given)
    assert found.shape == (3, 3, len(FEATURES))
    table = given["embedding"]
    for row in range(3):
        history = [item for item in given["history"][row] if item]
        weights = np.array([0.95 ** (len(history) - 1 - place) for place in range(len(history))])
        weights = weights / weights.sum() if len(history) else weights
        for column, item in enumerate(given["item"][row]):
            value = dict(zip(FEATURES, found[row, column], strict=True))
            cosines = sorted((float(unit(table[item]) @ unit(table[event])) for event in history), reverse=True)
            same = [given["category"][item] == given["category"][event] > 0 for event in history]
            shared = [bool(({*given["tags"][item]} & {*given["tags"][event]}) - {0}) for event in history]
            age = given["age_hours"][row, column]
            expected = {
                "retrieval": float(table[item] @ given["user"][row]),
                "nearest": float(np.mean(cosines[:3])) if history else 0.0,
                "category": float(np.dot(same, weights)),
                "tags": float(np.dot(shared, weights)),
                "appeal": float(given["appeal"][item]),
                "click_rate": float(given["click_rate"][row, column]),
                "clicks": float(np.log1p(given["clicks"][row, column])),
                "freshness": -float(np.log1p(age)) if age >= 0 else float("nan"),
                "history": float(np.log1p(len(history))),
            }
            for name, number in expected.items():
                assert value[name] == pytest.approx(number, abs=1e-5, nan_ok=True), (row, column, name)


def test_more_padding_changes_nothing() -> None:
    given = case()
    padded = {
        **given,
        "history": np.pad(given["history"], [[0, 0], [0, 3]]),
        **{name: np.pad(given[name], [[0, 0], [0, 2]]) for name in ("item", "clicks", "click_rate", "age_hours")},
    }
    np.testing.assert_allclose(features(padded)[:, :3], features(given), atol=1e-6)


def test_candidates_and_users_do_not_influence_each_other() -> None:
    given = case()
    whole = features(given)
    turned = {**given, **{name: given[name][:, ::-1] for name in ("item", "clicks", "click_rate", "age_hours")}}
    np.testing.assert_allclose(features(turned)[:, ::-1], whole, atol=1e-6)
    np.testing.assert_allclose(features(case(rows=1)), whole[:1], atol=1e-6)
