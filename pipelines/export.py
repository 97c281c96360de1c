"""Publish a run as the next numbered version of a served model."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import atomic_folder
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.data.examples import HistoryWindow
from pipelines.encode import load_encoder
from pipelines.errors import BadInput
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import prepare_for
from pipelines.progress import say
from pipelines.rankers import Queries
from pipelines.run import Run, Vocabulary

# Largest difference of a score or an embedding between the Python model and the reloaded file.
TOLERANCE = 1e-5
_CHECKED_USERS = 32
_CHECKED_ITEMS = 16

_RELOAD = Path(__file__).with_name("reload.py")


def export(run: Run, to: Path, dataset: Dataset | None = None) -> Path:
    """Write the next version under `to` and return its folder.

    The file is loaded again by a fresh process that knows neither Keras nor Belfry, and its answers to real histories
    in drawn contexts are compared with the Python model's; a difference above `TOLERANCE` publishes nothing.

    Args:
        to: The model's folder, `MODELS/NAME`; versions are its numbered subfolders.
        dataset: Whose items are recommended; the run's own by default.

    Raises:
        BadInput: `to` is a file, or there is no item to recommend.
    """
    to = Path(to)
    if to.exists() and not to.is_dir():
        raise BadInput(f"{to} is not a folder: give a model's folder such as models/news.")
    data = dataset or run.training_data()
    prepared = prepare_for(run, data)
    catalogue = prepared.catalogue
    if not len(catalogue):
        raise BadInput(f"{data.folder} has no item to recommend.")
    ranker = ModelRanker(run.model(catalogue), prepared.window)
    on_offer = prepared.on_offer_now()
    if not on_offer.any():
        raise BadInput(f"{data.folder} has no item on offer: all are removed or not yet published.")
    module = recommender(run, catalogue, ranker, on_offer)
    version = to / str(max(versions(to), default=0) + 1)
    from towers.runtime import tf

    with atomic_folder(version) as draft:
        tf.saved_model.save(module, str(draft), signatures=module.signatures())
        say("comparing the saved model, reloaded in a fresh process, with the Python model")
        _check(draft, catalogue, ranker, run.vocabulary, on_offer, module.top_k)
    return version


def versions(folder: Path) -> list[int]:
    """The version numbers in a model's folder."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdecimal())


def recommender(run: Run, catalogue: Catalogue, ranker: ModelRanker, on_offer: np.ndarray) -> Any:
    """The `towers.recommender.Recommender` of a run; `on_offer` (N,) bool is what it recommends of `catalogue`."""
    from towers.recommender import Recommender

    text = run.recipe.features.text
    return Recommender(
        ranker.model.content,
        ranker.model.behaviour,
        None if text is None else load_encoder(text),
        item_ids=list(catalogue.ids),
        embeddings=ranker.items,
        on_offer=on_offer,
        items=run.vocabulary.items,
        categories=run.vocabulary.categories,
        languages=run.vocabulary.languages,
        devices=run.vocabulary.devices,
        history=run.recipe.features.history,
        top_k=run.recipe.export.top_k,
    )


def _check(
    saved: Path, catalogue: Catalogue, ranker: ModelRanker, words: Vocabulary, on_offer: np.ndarray, top_k: int
) -> None:
    batch = _some_batch(ranker.window, words)
    asked = _questions(catalogue, batch, words)
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
    _compare(answers, catalogue, ranker, batch, on_offer, top_k)


def _some_users(window: HistoryWindow) -> Queries:
    """Users with the longest, the shortest and other histories."""
    log = window.interactions
    sizes = np.diff(log.user_offsets)
    order = np.argsort(sizes, kind="stable")
    row = np.unique(order[np.linspace(0, len(order) - 1, min(_CHECKED_USERS, len(order))).astype(int)])
    end = int(log.at.max()) if len(log) else 0
    return Queries(row, log.user_offsets[row + 1], np.full(len(row), end))


def _some_batch(window: HistoryWindow, words: Vocabulary) -> dict[str, np.ndarray]:
    """Model inputs: real histories, with signals and contexts drawn so that every input counts, known or not."""
    users = _some_users(window)
    batch = window.batch(users.user, users.history_end, users.at)
    rng = np.random.default_rng(0)
    there = batch["history"] > 0
    for name, most in (("age_seconds", 1e6), ("dwell_seconds", 300.0), ("scroll_depth", 1.0)):
        batch[name] = (rng.uniform(0, most, there.shape) * there).astype(np.float32)
    rows = np.arange(len(there))
    batch["language"] = (rows % (len(words.languages) + 1)).astype(np.int32)
    batch["device"] = (rows // 2 % (len(words.devices) + 1)).astype(np.int32)
    batch["time_seconds"] = rng.integers(1_600_000_000, 1_800_000_000, len(rows)) * (rows % 5 > 0)
    return batch


def _questions(catalogue: Catalogue, batch: dict[str, np.ndarray], words: Vocabulary) -> dict[str, np.ndarray]:
    ids = np.array(["", *catalogue.ids], dtype=object)
    items = _some_items(catalogue)
    rows = len(batch["history"])
    request = {
        "history_ids": ids[batch["history"]],
        "history_age_seconds": batch["age_seconds"],
        "history_dwell_seconds": batch["dwell_seconds"],
        "history_scroll_depth": batch["scroll_depth"],
        "language": np.array(["", *words.languages], dtype=object)[batch["language"]],
        "device": np.array(["no such device", *words.devices], dtype=object)[batch["device"]],
        "time_seconds": batch["time_seconds"],
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
    ranker: ModelRanker,
    batch: dict[str, np.ndarray],
    on_offer: np.ndarray,
    top_k: int,
) -> None:
    embeddings = ranker.model.embed_users(batch).numpy()
    items = _some_items(catalogue) - 1
    scores = embeddings @ ranker.items.T
    for row, seen in enumerate(batch["history"]):
        scores[row, seen[seen > 0] - 1] = -np.inf
    scores[:, ~on_offer] = -np.inf
    # The first item is excluded by the questions.
    scores[:, 0] = -np.inf
    expected = -np.sort(-scores, axis=1)[:, :top_k]
    _close("embed_users", answers["embed_users/embedding"], embeddings)
    _close("embed_items", answers["embed_items/embedding"], ranker.items[items])
    _close("rank", answers["rank/scores"], embeddings @ ranker.items[items].T)
    _close("recommend", answers["recommend/scores"], np.where(np.isfinite(expected), expected, 0.0))
    place = {str(item).encode(): column for column, item in enumerate(catalogue.ids)}
    for row, (ids, found) in enumerate(zip(answers["recommend/ids"], answers["recommend/scores"], strict=True)):
        given = [(place[item], value) for item, value in zip(ids, found, strict=True) if item]
        _close("recommend ids", np.array([scores[row, column] for column, _ in given]), np.array([v for _, v in given]))


def _close(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise AssertionError(f"{what}: the saved model's answer has another shape or values that are not finite")
    difference = float(np.abs(found - expected).max(initial=0.0) / max(1.0, float(np.abs(expected).max(initial=0.0))))
    if difference > TOLERANCE:
        raise AssertionError(f"{what}: the saved model differs from the Python model by {difference:.2e}")
