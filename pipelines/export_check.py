"""Whether a saved model answers like the Python model that it was made from."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pipelines.data.catalogue import Catalogue
from pipelines.data.examples import HistoryWindow
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared
from pipelines.rankers import Queries, Ranker
from pipelines.second_stage import TwoStageRanker

# Largest difference of a score or an embedding between the Python model and the reloaded file.
TOLERANCE = 1e-5
_CHECKED_USERS = 32
_CHECKED_ITEMS = 16

_RELOAD = Path(__file__).with_name("reload.py")


def check(
    saved: Path,
    data: Prepared,
    first: ModelRanker,
    second: TwoStageRanker | None,
    on_offer: np.ndarray,
    top_k: int,
) -> None:
    """Load `saved` in a fresh process that knows neither Keras nor Belfry, and compare all four signatures.

    Raises:
        AssertionError: It does not load, or an answer differs by more than `TOLERANCE`.
    """
    users = _some_users(first.window, data.end)
    asked = _questions(data.catalogue, first.window, users)
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "asked.npz", Path(folder) / "answers.npz"
        np.savez(question, allow_pickle=False, **{name: _storable(value) for name, value in asked.items()})
        command = [sys.executable, "-I", str(_RELOAD), str(saved), str(question), str(answer)]
        alone = {name: value for name, value in os.environ.items() if "KERAS" not in name}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
        if done.returncode:
            raise AssertionError(f"the saved model does not load by itself:\n{done.stderr[-2000:]}")
        with np.load(answer, allow_pickle=False) as file:
            answers = dict(file)
    _compare(answers, data.catalogue, first, second, users, on_offer, top_k)


def _some_users(window: HistoryWindow, end: int) -> Queries:
    """Users with the longest, the shortest and other histories."""
    log = window.interactions
    sizes = np.diff(log.user_offsets)
    order = np.argsort(sizes, kind="stable")
    row = np.unique(order[np.linspace(0, len(order) - 1, min(_CHECKED_USERS, len(order))).astype(int)])
    return Queries(row, log.user_offsets[row + 1], np.full(len(row), end))


def _questions(catalogue: Catalogue, window: HistoryWindow, users: Queries) -> dict[str, np.ndarray]:
    batch = window.batch(users.user, users.history_end, users.at)
    ids = np.array(["", *catalogue.ids], dtype=object)
    items = _some_items(catalogue)
    rows = len(users)
    request = {
        "history_ids": ids[batch["history"]],
        "history_age_seconds": batch["age_seconds"],
        "history_dwell_seconds": batch["dwell_seconds"],
        "language": window.interactions.user_language[users.user],
        "time_seconds": users.at.astype(np.int64),
    }
    asked = {f"{name}/{key}": value for name in ("recommend", "rank", "embed_users") for key, value in request.items()}
    asked["recommend/exclude_ids"] = np.tile(np.array(["", "no such item", catalogue.ids[0]], dtype=object), (rows, 1))
    asked["rank/candidate_ids"] = np.tile(ids[items], (rows, 1))
    for name, values in (
        ("item_id", catalogue.ids),
        ("title", catalogue.title),
        ("body", catalogue.body),
        ("language", catalogue.language),
        ("category", catalogue.category),
    ):
        asked[f"embed_items/{name}"] = values[items - 1]
    tags = [list(catalogue.tags[item - 1]) for item in items]
    longest = max(1, max(map(len, tags)))
    asked["embed_items/tags"] = np.array([each + [""] * (longest - len(each)) for each in tags], dtype=object)
    return asked


def _some_items(catalogue: Catalogue) -> np.ndarray:
    """Rows (from 1) of items spread over the catalogue."""
    return np.unique(np.linspace(1, len(catalogue), min(_CHECKED_ITEMS, len(catalogue))).astype(int))


def _storable(values: np.ndarray) -> np.ndarray:
    if values.dtype != object:
        return values
    return np.array([str(value).encode() for value in values.ravel()]).astype("S").reshape(values.shape)


def _compare(
    answers: dict[str, np.ndarray],
    catalogue: Catalogue,
    first: ModelRanker,
    second: TwoStageRanker | None,
    users: Queries,
    on_offer: np.ndarray,
    top_k: int,
) -> None:
    whole: Ranker = second or first
    items = _some_items(catalogue) - 1
    allowed = np.tile(on_offer, (len(users), 1))
    history = first.window.batch(users.user, users.history_end, users.at)["history"]
    for row, seen in enumerate(history):
        allowed[row, seen[seen > 0] - 1] = False
    allowed[:, 0] = False  # the questions exclude the first item
    ranking = whole.catalogue(users, allowed)
    expected = -np.sort(-ranking, axis=1)[:, :top_k]
    pairs = np.repeat(np.arange(len(users)), len(items)), np.tile(items, len(users))
    _close("embed_users", answers["embed_users/embedding"], first.embed(users))
    _close("embed_items", answers["embed_items/embedding"], first.items[items])
    _close("rank", answers["rank/scores"], whole.pairs(users, *pairs).reshape(len(users), -1))
    if second is not None:
        for task, name in enumerate(second.tower.tasks):
            probability = 1 / (1 + np.exp(-second.log_odds(users, *pairs)[:, task]))
            _close(f"rank {name}", answers[f"rank/{name}"], probability.reshape(len(users), -1))
    place = {str(item).encode(): column for column, item in enumerate(catalogue.ids)}
    for row, (ids, found) in enumerate(zip(answers["recommend/ids"], answers["recommend/scores"], strict=True)):
        columns = np.array([place[item] for item in ids if item], dtype=np.int64)
        if len(columns) != np.isfinite(expected[row]).sum():
            raise AssertionError("recommend: the saved model returns another number of items than the Python model")
        # The ids must be of the best scores, in falling order; among equal scores any order will do.
        _close("recommend order", ranking[row, columns], expected[row, : len(columns)])
        scores = whole.pairs(users, np.full(len(columns), row), columns)
        _close("recommend", found[: len(columns)], scores)
        _close("recommend padding", found[len(columns) :], np.zeros(len(found) - len(columns)))


def _close(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise AssertionError(f"{what}: the saved model's answer has another shape or values that are not finite")
    difference = float(np.abs(found - expected).max(initial=0.0) / max(1.0, float(np.abs(expected).max(initial=0.0))))
    if difference > TOLERANCE:
        raise AssertionError(f"{what}: the saved model differs from the Python model by {difference:.2e}")
