"""Whether a saved model answers like the Python model that it was made from."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import expit

from pipelines.data.catalogue import Catalogue
from pipelines.data.window import HistoryWindow
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared
from pipelines.rankers import Queries
from pipelines.second_stage import TwoStageRanker
from pipelines.vocabulary import Vocabulary

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
    words: Vocabulary,
    on_offer: np.ndarray,
    top_k: int,
    more: dict[str, np.ndarray],
    needs: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Load `saved` in a fresh process that knows neither Keras nor Belfry, and compare all signatures.

    Args:
        more: Further questions, whose answers are returned; what starts a process is a while in starting.
        needs: Packages whose ops the graph may have beside a stock server's. With `scann`, `recommend` is approximate
            and not compared here: the golden requests say how near it comes.

    Raises:
        AssertionError: It does not load, or an answer differs by more than `TOLERANCE`.
    """
    batch = some_batch(first.window, words)
    asked = _questions(data.catalogue, batch, words, _images(data.catalogue, first), first.items.shape[1])
    answers = ask_in_fresh_process(saved, asked | more, needs)
    _compare(answers, data, first, second, batch, on_offer, None if "scann" in needs else top_k)
    return answers


def ask_in_fresh_process(saved: Path, asked: dict[str, np.ndarray], needs: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Questions and answers as `pipelines/reload.py` takes and gives them.

    Raises:
        AssertionError: The model does not load by itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "asked.npz", Path(folder) / "answers.npz"
        np.savez(question, allow_pickle=False, **{name: _storable(value) for name, value in asked.items()})
        command = [sys.executable, "-I", str(_RELOAD), str(saved), str(question), str(answer), *needs]
        alone = {name: value for name, value in os.environ.items() if "KERAS" not in name}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
        if done.returncode:
            raise AssertionError(f"the saved model does not load by itself:\n{done.stderr[-2000:]}")
        with np.load(answer, allow_pickle=False) as file:
            return dict(file)


def _some_users(window: HistoryWindow) -> Queries:
    """Users with the longest, the shortest and other histories."""
    log = window.interactions
    sizes = np.diff(log.user_offsets)
    order = np.argsort(sizes, kind="stable")
    row = np.unique(order[np.linspace(0, len(order) - 1, min(_CHECKED_USERS, len(order))).astype(int)])
    end = int(log.at.max()) if len(log) else 0
    return Queries(row, log.user_offsets[row + 1], np.full(len(row), end))


def some_batch(window: HistoryWindow, words: Vocabulary) -> dict[str, np.ndarray]:
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


def _questions(
    catalogue: Catalogue, batch: dict[str, np.ndarray], words: Vocabulary, images: list[bytes], width: int
) -> dict[str, np.ndarray]:
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
    names = ("recommend", "recommend_live", "rank", "embed_users")
    asked = {f"{name}/{key}": value for name in names for key, value in request.items()}
    for name in names[:2]:
        asked[f"{name}/exclude_ids"] = np.tile(
            np.array(["", "no such item", catalogue.ids[0]], dtype=object), (rows, 1)
        )
    asked |= {f"recommend_live/{name}": value for name, value in no_live_items(rows, width).items()}
    asked["rank/candidate_ids"] = np.tile(ids[items], (rows, 1))
    for name, values in (
        ("item_id", catalogue.ids),
        ("title", catalogue.title),
        ("body", catalogue.body),
        ("language", catalogue.language),
        ("category", catalogue.category),
    ):
        asked[f"embed_items/{name}"] = values[items - 1]
    # As bytes of a fixed width, which end where the padding of zeros begins: no JPEG or PNG ends in one.
    asked["embed_items/image"] = np.array(images).astype("S")
    tags = [list(catalogue.tags[item - 1]) for item in items]
    longest = max(1, max(map(len, tags)))
    asked["embed_items/tags"] = np.array([each + [""] * (longest - len(each)) for each in tags], dtype=object)
    return asked


def no_live_items(rows: int, width: int) -> dict[str, np.ndarray]:
    """What `recommend_live` takes beside the inputs of `recommend`, when nothing is younger than the index."""
    return {
        "live_ids": np.full((rows, 1), "", object),
        "live_embeddings": np.zeros((rows, 1, width), np.float32),
        "live_category": np.full((rows, 1), "", object),
        "live_tags": np.full((rows, 1, 1), "", object),
        "live_published_seconds": np.zeros((rows, 1), np.int64),
    }


def _some_items(catalogue: Catalogue) -> np.ndarray:
    """Rows (from 1) of items spread over the catalogue."""
    return np.unique(np.linspace(1, len(catalogue), min(_CHECKED_ITEMS, len(catalogue))).astype(int))


def _images(catalogue: Catalogue, first: ModelRanker) -> list[bytes]:
    """Of `_some_items`; b"" where the Python model has none, because it could not be decoded."""
    rows, table = _some_items(catalogue), first.model.items.image.numpy()
    if not table.shape[1]:
        return [b""] * len(rows)
    known = table[rows].any(axis=1)
    return [image if there else b"" for image, there in zip(catalogue.images.of(rows), known, strict=True)]


def _storable(values: np.ndarray) -> np.ndarray:
    if values.dtype != object:
        return values
    return np.array([str(value).encode() for value in values.ravel()]).astype("S").reshape(values.shape)


def _compare(
    answers: dict[str, np.ndarray],
    data: Prepared,
    first: ModelRanker,
    second: TwoStageRanker | None,
    batch: dict[str, np.ndarray],
    on_offer: np.ndarray,
    top_k: int | None,
) -> None:
    catalogue = data.catalogue
    users = first.model.embed_users(batch).numpy()
    items = _some_items(catalogue) - 1
    ranking = users @ first.items.T
    for row, seen in enumerate(batch["history"]):
        ranking[row, seen[seen > 0] - 1] = -np.inf
    ranking[:, ~on_offer] = -np.inf
    ranking[:, 0] = -np.inf  # the questions exclude the first item

    def score(columns: np.ndarray) -> np.ndarray:
        """Of items (Q, C), by the last stage."""
        if second is None:
            return np.einsum("qd,qcd->qc", users, first.items[columns])
        return second.order(second.judge(batch, columns, counted_at))

    counted_at = np.full(len(users), data.end)
    if second is not None:
        ranking = second.reordered(batch, ranking, counted_at)
        probability = expit(second.judge(batch, np.tile(items, (len(users), 1)), counted_at))
        for task, name in enumerate(second.tower.tasks):
            _close(f"rank {name}", answers[f"rank/{name}"], probability[..., task])
    _close("embed_users", answers["embed_users/embedding"], users)
    _close("embed_items", answers["embed_items/embedding"], first.items[items])
    _close("rank", answers["rank/scores"], score(np.tile(items, (len(users), 1))))
    if top_k is None:
        return
    expected = -np.sort(-ranking, axis=1)[:, :top_k]
    _close("recommend_live", answers["recommend_live/scores"], answers["recommend/scores"])
    if not np.array_equal(answers["recommend_live/ids"], answers["recommend/ids"]):
        raise AssertionError("recommend_live: without live items, the saved model recommends others than without them")
    place = {str(item).encode(): column for column, item in enumerate(catalogue.ids)}
    given = np.array([[place.get(item, 0) for item in row] for row in answers["recommend/ids"]])
    full = answers["recommend/ids"] != b""
    if not np.array_equal(full, np.isfinite(expected)):
        raise AssertionError("recommend: the saved model returns another number of items than the Python model")
    # The ids must be of the best scores, in falling order; among equal scores any order will do.
    in_order = np.take_along_axis(ranking, given, axis=1)
    _close("recommend order", np.where(full, in_order, 0.0), np.where(full, expected, 0.0))
    _close("recommend", answers["recommend/scores"], np.where(full, score(given), 0.0))


def _close(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise AssertionError(f"{what}: the saved model's answer has another shape or values that are not finite")
    difference = float(np.abs(found - expected).max(initial=0.0) / max(1.0, float(np.abs(expected).max(initial=0.0))))
    if difference > TOLERANCE:
        raise AssertionError(f"{what}: the saved model differs from the Python model by {difference:.2e}")
