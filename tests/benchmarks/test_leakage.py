"""No peer's score of a test row depends on what was clicked there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.methods import METHODS
from benchmarks.quality.peers import content, factorisation, neural_news, simple
from benchmarks.quality.peers.content import training_rows
from benchmarks.quality.protocol import Method, Training, View
from pipelines.judge import Slates
from pipelines.rankers import Queries, Ranker

Make = Callable[[int], View]
_OPTIONAL = {
    "ALS": "implicit",
    "BPR (implicit)": "implicit",
    "cornac": "cornac",
    "BiVAE": "torch",
    "LightGBM": "lightgbm",
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text vectors that depend on the text alone and need no encoder; one epoch of what is trained by epochs."""

    def vectors(texts: np.ndarray, *_: object) -> np.ndarray:
        drawn = np.stack([np.random.default_rng(list(text.encode())).standard_normal(8) for text in texts])
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    for module in (simple, content, factorisation):
        monkeypatch.setattr(module, "text_vectors", vectors)
    for name, value in {"_EPOCHS": 1, "_HISTORY": 4, "_TITLE": 4}.items():
        monkeypatch.setattr(neural_news, name, value)


def _peers(*tasks: str) -> list[Method]:
    found = {method.name: method for task in tasks for method in METHODS[task] if not method.ours}
    return list(found.values())


def _fit(method: Method, training: Training, view: View) -> Ranker:
    for word, package in _OPTIONAL.items():
        if word in method.name:
            pytest.importorskip(package)
    setting = {name: values[-1] for name, values in method.grid.items()}
    setting |= {name: small for name, small in {"factors": 4, "iterations": 3, "epochs": 2}.items() if name in setting}
    return method.fit(training, **setting).over(view)


def _before_test(view: View) -> Training:
    day = view.behaviour.requests.at // 86_400
    request = view.behaviour.interactions.request
    return Training(view, day[request] != day.max(), day != day.max())


@pytest.mark.parametrize("method", _peers("mind"), ids=lambda method: method.name)
def test_permuting_the_test_clicks_changes_no_score_of_a_slate(method: Method, slates: Make) -> None:
    scores, clicks = [], []
    for seed in (1, 2):
        view = slates(seed)
        training = _before_test(view)
        judge = Slates.of(view.behaviour, ~training.requests, known_only=True)
        scores.append(judge.scores(_fit(method, training, view)))
        clicks.append(judge.clicked)
    assert not np.array_equal(*clicks)
    assert np.array_equal(*scores)


@pytest.mark.parametrize("method", _peers("ml100k-last", "ibm-new", "globo"), ids=lambda method: method.name)
def test_permuting_the_held_out_items_changes_no_score_of_the_catalogue(method: Method, sequences: Make) -> None:
    tables, targets = [], []
    for seed in (1, 2):
        view = sequences(seed)
        log = view.behaviour.interactions
        last = np.zeros(len(log), bool)
        last[log.user_offsets[1:] - 1] = True
        queries = Queries(log.user[last], log.history_end[last], log.at[last].min() + np.zeros(last.sum(), np.int64))
        ranker = _fit(method, Training(view, ~last, np.zeros(0, bool)), view)
        tables.append(ranker.catalogue(queries, np.ones((len(queries), len(view.catalogue)), bool)))
        targets.append(log.item[last])
    assert not np.array_equal(*targets)
    assert np.array_equal(*tables)


def test_the_click_rate_of_a_training_row_does_not_hold_its_own_label(slates: Make) -> None:
    view = slates(1)
    training = _before_test(view)
    requests = view.behaviour.requests
    day = requests.at // 86_400
    rows, _ = training_rows(training, rates=True)
    plain, _ = training_rows(training, rates=False)
    assert rows.features.shape[1] == plain.features.shape[1] + 1
    first = day == day.min()
    inside = np.repeat(first, np.diff(requests.offsets))
    flipped = replace(requests, clicked=requests.clicked ^ inside)
    other = replace(view, behaviour=replace(view.behaviour, requests=flipped))
    changed, _ = training_rows(replace(training, view=other), rates=True)
    again = first[rows.request]
    assert np.array_equal(changed.request, rows.request)
    assert np.array_equal(changed.features[again, -1], rows.features[again, -1])
    assert not np.array_equal(changed.features[~again, -1], rows.features[~again, -1])
