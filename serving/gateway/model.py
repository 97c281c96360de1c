"""The model as the gateway asks it: which version, what it can do, and its signatures with arrays made of requests."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.client import Answer, AsyncClient, ClientError, NotServed
from serving.events.items import ItemContent
from serving.gateway.batching import Batcher
from serving.gateway.breaker import Breaker
from serving.gateway.errors import ModelAway
from serving.gateway.live_items import LiveItems, LiveSet
from serving.gateway.metrics import Metrics

_log = logging.getLogger(__name__)
_PROBE_HISTORY = 20
_BATCHES_WAITING = 2
_SLOW_SECONDS = 30.0  # of calls that no reader waits for


class Query(NamedTuple):
    """A user at a moment; what is not known is empty or 0. The history is oldest first."""

    history_ids: Sequence[str]
    age_seconds: Sequence[float]
    dwell_seconds: Sequence[float]
    scroll_depth: Sequence[float]
    language: str
    device: str
    time_seconds: int
    exclude: Sequence[str] = ()
    live: LiveSet | None = None  # to be considered beside the index


class Version(NamedTuple):
    """A version of the model, and what it can do."""

    number: int
    takes_live: bool
    two_stages: bool


class Retrieved(NamedTuple):
    """Items and scores, the best first, and the version that gave them."""

    ids: list[str]
    scores: list[float]
    version: int


class Model:
    """Asks one version at a time; a newer one is taken up by its `LiveKeeper`, or when the old one is gone.

    `live` are its live items; they count while their version is the one that is asked.

    Args:
        label: Whose version is asked; empty for the newest.
        seconds: Of a call that somebody waits for. Longer than they wait: a call in this process goes on when it is
            given up, and another beside it would only be slower.
    """

    def __init__(
        self, client: AsyncClient, name: str, metrics: Metrics, *, label: str, seconds: float, batch: int, at_once: int
    ) -> None:
        self.name, self.label = name, label
        self.live: LiveItems | None = None
        self.version: Version | None = None
        self.breaker = Breaker()
        self._client, self._metrics, self._seconds, self._batch = client, metrics, seconds, batch
        limits = {"most": batch, "at_once": at_once, "most_waiting": _BATCHES_WAITING * batch}
        self._recommending: Batcher[Query, Retrieved] = Batcher(self._recommend, **limits)
        self._embedding: Batcher[Query, np.ndarray] = Batcher(self._embed_users, **limits)

    async def newest(self) -> Version:
        """The version that is to be asked: the label's, or the newest there is.

        Raises:
            ClientError: The server gives no answer, or has none.
        """
        if self.label:
            number = await self._client.resolve(self.name, label=self.label, timeout=5.0)
        else:
            states = await self._client.versions(self.name, timeout=5.0)
            available = [each.version for each in states if each.state == "AVAILABLE"]
            if not available:
                raise NotServed("NOT_FOUND", f"No version of {self.name} is available.")
            number = max(available)
        if self.version is not None and number == self.version.number:
            return self.version
        signatures = await self._client.signatures(self.name, version=number, timeout=5.0)
        missing = sorted({"recommend", "rank", "embed_items", "embed_users"} - signatures.keys())
        if missing:
            raise NotServed("NOT_FOUND", f"Version {number} of {self.name} has no signature {missing[0]}.")
        return Version(number, "recommend_live" in signatures, len(signatures["rank"].outputs) > 1)

    async def warm(self, version: Version) -> None:
        """Ask everything once: TensorFlow prepares a signature at its first call, for up to seconds.

        Raises:
            ClientError: There is no answer.
        """

        async def ask(signature: str, inputs: dict[str, Any]) -> Answer:
            return await self._client.predict(
                self.name, inputs, signature=signature, version=version.number, timeout=_SLOW_SECONDS
            )

        nobody = Query([], [], [], [], "", "", int(time.time()))
        vector = (await ask("embed_users", _request([nobody]))).outputs["embedding"][0]
        for rows in (1, self._batch):
            inputs = _request([nobody] * rows) | {"exclude_ids": _strings([()] * rows)}
            await ask("recommend", inputs)
            if version.takes_live:
                live = LiveSet(_column(["\x7f"]), vector[None], _column([""]), _strings([()]), np.zeros(1, np.int64))
                await ask("recommend_live", inputs | LiveSet.batch([live] * rows))
        await self.known(version.number, [""])
        await self.embed_items(version.number, [ItemContent("", "", "", "", "", (), b"")])

    async def recommend(self, query: Query) -> Retrieved:
        """The best of the index, and of the live items where the version takes those.

        Raises:
            ModelAway: There is no answer.
        """
        return await self._recommending.ask(query)

    async def embed_user(self, query: Query) -> np.ndarray:
        """The user's vector (D,).

        Raises:
            ModelAway: There is no answer.
        """
        return await self._embedding.ask(query)

    async def rank(self, query: Query, candidates: Sequence[str]) -> list[float]:
        """A score for each candidate.

        Raises:
            ModelAway: There is no answer.
        """
        inputs = _request([query]) | {"candidate_ids": _strings([candidates])}
        answer = await self._ask("rank", inputs)
        return [float(score) for score in answer.outputs["scores"][0]]

    async def known(self, version: int, item_ids: Sequence[str]) -> list[bool]:
        """Which items the index of a version has: of one that it has not, `rank` says exactly 0.

        Raises:
            ClientError: There is no answer.
        """
        # Somebody who has read some of them: the vector of nobody may be 0, and every score with it.
        read = list(item_ids[:_PROBE_HISTORY])
        nothing = [0.0] * len(read)
        reader = Query(read, nothing, nothing, nothing, "", "", int(time.time()))
        inputs = _request([reader]) | {"candidate_ids": _strings([item_ids])}
        answer = await self._client.predict(self.name, inputs, signature="rank", version=version, timeout=_SLOW_SECONDS)
        # With a second stage the score of nothing is something, but its probabilities are 0.
        told = next((name for name in sorted(answer.outputs) if name != "scores"), "scores")
        return [bool(value != 0) for value in answer.outputs[told][0]]

    async def embed_items(self, version: int, items: Sequence[ItemContent]) -> np.ndarray:
        """Their vectors (B, D) by a version.

        Raises:
            ClientError: There is no answer.
        """
        columns = ("item_id", "title", "body", "language", "category", "image")
        inputs: dict[str, Any] = {name: _column([getattr(item, name) for item in items]) for name in columns}
        inputs["tags"] = _strings([item.tags for item in items])
        answer = await self._client.predict(
            self.name, inputs, signature="embed_items", version=version, timeout=_SLOW_SECONDS
        )
        return np.asarray(answer.outputs["embedding"], np.float32)

    async def _recommend(self, queries: Sequence[Query]) -> list[Retrieved]:
        self._metrics.batch.observe(len(queries))
        inputs = _request(queries) | {"exclude_ids": _strings([query.exclude for query in queries])}
        signature = "recommend"
        if self.version is not None and self.version.takes_live and any(query.live for query in queries):
            signature = "recommend_live"
            inputs |= LiveSet.batch([query.live for query in queries])
        answer = await self._ask(signature, inputs)
        ids, scores = answer.outputs["ids"].tolist(), answer.outputs["scores"].tolist()
        return [_retrieved(*row, answer.version) for row in zip(ids, scores, strict=True)]

    async def _embed_users(self, queries: Sequence[Query]) -> list[np.ndarray]:
        answer = await self._ask("embed_users", _request(queries))
        return list(np.asarray(answer.outputs["embedding"], np.float32))

    async def _ask(self, signature: str, inputs: dict[str, Any]) -> Answer:
        if self.version is None or not self.breaker.allows():
            raise ModelAway("The model is not asked at the moment.")
        begun = time.perf_counter()
        try:
            answer = await self._predict(signature, inputs)
        except ClientError as error:
            self.breaker.failed()
            self._metrics.model_calls.labels(signature, error.code).inc()
            if not self.breaker.is_open:
                _log.warning("The model gave no answer (%s): %s", error.code, error.message[:200])
            raise ModelAway(error.message) from None
        self.breaker.succeeded()
        self._metrics.model_calls.labels(signature, "OK").inc()
        self._metrics.model_seconds.labels(signature).observe(time.perf_counter() - begun)
        return answer

    async def _predict(self, signature: str, inputs: dict[str, Any]) -> Answer:
        assert self.version is not None
        asked = self.version
        try:
            return await self._client.predict(
                self.name, inputs, signature=signature, version=asked.number, timeout=self._seconds
            )
        except NotServed:
            # It was replaced meanwhile; live vectors are of the old one and stay behind.
            if self.version.number == asked.number:
                self.version = await self.newest()
        if signature == "recommend_live":
            signature = "recommend"
            inputs = {name: value for name, value in inputs.items() if not name.startswith("live_")}
        return await self._client.predict(
            self.name, inputs, signature=signature, version=self.version.number, timeout=self._seconds
        )


def _retrieved(ids: list[bytes], scores: list[float], version: int) -> Retrieved:
    count = next((place for place, each in enumerate(ids) if not each), len(ids))
    return Retrieved([each.decode() for each in ids[:count]], scores[:count], version)


def _request(queries: Sequence[Query]) -> dict[str, Any]:
    length = max(1, max(len(query.history_ids) for query in queries))
    inputs: dict[str, Any] = {"history_ids": _strings([query.history_ids for query in queries])}
    for name in ("age_seconds", "dwell_seconds", "scroll_depth"):
        column = np.zeros((len(queries), length), np.float32)
        for row, query in enumerate(queries):
            values = getattr(query, name)
            column[row, : len(values)] = values
        inputs[f"history_{name}"] = column
    for name in ("language", "device"):
        inputs[name] = _column([getattr(query, name) for query in queries])
    inputs["time_seconds"] = np.array([query.time_seconds for query in queries], np.int64)
    return inputs


def _column(values: Sequence[Any]) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _strings(rows: Sequence[Sequence[str]]) -> np.ndarray:
    """Rows of ids (B, W), padded with ""; W is at least 1."""
    found = np.full((len(rows), max(1, max(map(len, rows)))), "", object)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row
    return found
