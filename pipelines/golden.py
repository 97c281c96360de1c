"""Golden requests: what a model is asked everywhere it answers, and what the Python model says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared
from pipelines.second_stage import TwoStageRanker
from pipelines.vocabulary import Vocabulary

# Largest difference of a score, relative to the largest score where that is above 1; items nearer than this are level.
TOLERANCE = 1e-4
COUNT = 200
_MANY = 300
_SIGNALS = ("age_seconds", "dwell_seconds", "scroll_depth")
_LARGEST = {"age_seconds": 1e6, "dwell_seconds": 300.0, "scroll_depth": 1.0}


@dataclass(frozen=True)
class Answers:
    """Of `recommend`: ids (Q, K), "" for none, and scores (Q, K)."""

    ids: list[list[str]]
    scores: np.ndarray

    def difference(self, other: Answers, tolerance: float = TOLERANCE) -> str | None:
        """What another answer to the same requests has that is not equal, in words; None for nothing.

        Items whose scores are within the tolerance of each other may stand in any order.
        """
        if self.scores.shape != other.scores.shape or not np.isfinite(other.scores).all():
            return "the answer has another shape, or scores that are not finite"
        room = tolerance * max(1.0, float(np.abs(self.scores).max(initial=0.0)))
        worst = float(np.abs(self.scores - other.scores).max(initial=0.0))
        if worst > room:
            return f"scores differ by {worst:.2e}"
        for row, (own, ids) in enumerate(zip(self.ids, other.ids, strict=True)):
            score = {item: value for item, value in zip(own, self.scores[row], strict=True) if item}
            last = min(score.values(), default=0.0)
            for place, (mine, item) in enumerate(zip(own, ids, strict=True)):
                if mine == item:
                    continue
                level = mine and item and abs(score.get(item, last) - self.scores[row, place]) <= room
                if not level or ids.count(item) > 1:
                    return f"request {row} has {item!r} at place {place + 1} where {mine!r} belongs"
        return None

    def recall(self, other: Answers, first: int = 10) -> float:
        """The share of these first items that another answer has among its own, over all requests."""
        kept = wanted = 0
        for own, ids in zip(self.ids, other.ids, strict=True):
            best = {item for item in own[:first] if item}
            wanted += len(best)
            kept += len(best & set(ids[:first]))
        return kept / max(1, wanted)


def golden_requests(data: Prepared, words: Vocabulary, on_offer: np.ndarray, *, seed: int = 0) -> list[dict[str, Any]]:
    """Requests for `recommend`, a row each as REST takes them: real histories, and what is odd about requests.

    Empty and long histories, ids that are unknown, empty, repeated or not of this world, removed items, every language
    and device and some that are not known, no time, a few, many and almost all items excluded.
    """
    rng, catalogue, log = np.random.default_rng(seed), data.catalogue, data.behaviour.interactions
    ids, most = [str(item) for item in catalogue.ids], data.window.length
    gone = [item for item, offered in zip(ids, on_offer, strict=True) if not offered]
    odd = ["", "no such item", "žluťoučký 🐎 كتاب 书", "x" * 200, "a\tb\nc", '"quoted"', "\x01"]
    languages, devices = [*words.languages, "", "tlh"], [*words.devices, "", "telegraph"]

    def real() -> list[str]:
        user = int(rng.integers(len(log.user_ids))) if len(log.user_ids) else 0
        rows = log.item[log.user_offsets[user] : log.user_offsets[user + 1]] if len(log) else np.zeros(0, int)
        return [ids[item - 1] for item in rows[: int(rng.integers(len(rows) + 1))]]

    def some(count: int, among: Sequence[str]) -> list[str]:
        return [str(item) for item in rng.choice(np.array(among, object), count)] if among else []

    histories = {
        "empty": list,
        "unknown ids": lambda: some(3, odd),
        "known and unknown ids": lambda: [*real()[-5:], *some(2, odd), *some(3, ids), *some(1, odd)],
        "long": lambda: some(3 * most, ids),
        "repeated": lambda: some(1, ids) * 4,
        "removed items": lambda: [*some(3, gone), *some(2, ids)],
    }
    excluded = {
        "nothing": list,
        "unknown ids": lambda: some(3, odd),
        "a few": lambda: some(5, ids),
        "many": lambda: some(_MANY, ids),
        "almost all": lambda: [str(item) for item in rng.permutation(np.array(ids, object))[3:][: 10 * _MANY]],
    }
    requests = []
    for number in range(COUNT):
        kinds = list(histories)
        history = histories[kinds[number // 2 % len(kinds)]]() if number % 2 else real()
        # Those that exclude much are large: a few will do.
        rest = list(excluded)[number % 3 if number % 20 else 3 + number // 20 % 2]
        signals = {
            f"history_{name}": [float(np.float32(rng.uniform(0, _LARGEST[name]))) for _ in history] for name in _SIGNALS
        }
        requests.append(
            {
                "history_ids": history,
                **signals,
                "language": languages[number % len(languages)],
                "device": devices[number // 3 % len(devices)],
                "time_seconds": int(rng.integers(1_600_000_000, 1_800_000_000)) if number % 7 else 0,
                "exclude_ids": excluded[rest](),
            }
        )
    return requests


def python_answers(
    requests: Sequence[dict[str, Any]],
    data: Prepared,
    first: ModelRanker,
    second: TwoStageRanker | None,
    words: Vocabulary,
    on_offer: np.ndarray,
    top_k: int,
) -> Answers:
    """By the trained Keras model and NumPy, without the served graph; among equal scores the smaller id comes first."""
    place = {str(item): row for row, item in enumerate(data.catalogue.ids, start=1)}
    length, rows = data.window.length, len(requests)
    batch: dict[str, np.ndarray] = {"history": np.zeros((rows, length), np.int32)}
    batch |= {name: np.zeros((rows, length), np.float32) for name in _SIGNALS}
    for row, request in enumerate(requests):
        index = np.array([place.get(item, 0) for item in request["history_ids"]], np.int32)
        kept = np.flatnonzero(index)[-length:]
        batch["history"][row, : len(kept)] = index[kept]
        for name in _SIGNALS:
            batch[name][row, : len(kept)] = np.array(request[f"history_{name}"], np.float32)[kept]
    for name, known in (("language", words.languages), ("device", words.devices)):
        index_of = {value: number for number, value in enumerate(known, start=1)}
        batch[name] = np.array([index_of.get(request[name], 0) for request in requests], np.int32)
    batch["time_seconds"] = np.array([request["time_seconds"] for request in requests], np.int64)
    hidden = [
        {place.get(item, 0) for item in (*request["history_ids"], *request["exclude_ids"])} - {0}
        for request in requests
    ]
    best, scores, _ = best_of(batch, hidden, data, first, second, on_offer, top_k)
    found = np.isfinite(scores)
    ids = [
        [str(data.catalogue.ids[item]) if there else "" for item, there in zip(*pair, strict=True)]
        for pair in zip(best, found, strict=True)
    ]
    return Answers(ids, np.where(found, scores, 0.0))


def best_of(
    batch: dict[str, np.ndarray],
    hidden: Sequence[Iterable[int]],
    data: Prepared,
    first: ModelRanker,
    second: TwoStageRanker | None,
    on_offer: np.ndarray,
    top_k: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the trained model recommends to a batch of B users, as `HistoryWindow.batch` makes it.

    Args:
        hidden: For each user rows of the catalogue + 1 that are not recommended.

    Returns:
        Items (B, K) as rows of the catalogue, their scores (B, K), -inf where there is no item, and the users' vectors.
    """
    users = first.model.embed_users(batch).numpy()
    ranking = (users @ first.items.T).astype(np.float64)
    ranking[:, ~on_offer] = -np.inf
    for row, rows in enumerate(hidden):
        ranking[row, [item - 1 for item in rows]] = -np.inf
    count = min(top_k, ranking.shape[1])
    best = np.argsort(-ranking, axis=1, kind="stable")[:, :count]
    scores = np.take_along_axis(ranking, best, axis=1)
    if second is not None:
        counted_at = np.full(len(ranking), data.end)
        order = second.reordered(batch, ranking, counted_at)
        best = np.argsort(-order, axis=1, kind="stable")[:, :count]
        there = np.isfinite(np.take_along_axis(order, best, axis=1))
        scores = np.where(there, second.order(second.judge(batch, best, counted_at)), -np.inf)
    return best, scores, users


def answers_of(rows: Iterable[dict[str, Any]]) -> Answers:
    """Rows of `ids` and `scores`, as servers give them."""
    rows = list(rows)
    ids = [[item.decode() if isinstance(item, bytes) else str(item) for item in row["ids"]] for row in rows]
    return Answers(ids, np.array([row["scores"] for row in rows], np.float64))
