"""Users' vectors, by asking the model server that answers them."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.client import Client
from serving.monitoring.features import Samples

_BATCH = 256
_SIGNALS = ("age_seconds", "dwell_seconds", "scroll_depth")


class Embedder:
    """Asks `embed_users` of a model server.

    Args:
        server: As `serving.client.Client` takes it.
        model: The model's name.
        batch: Users in one call.
        seconds: A call has.
    """

    def __init__(self, server: Any, model: str, *, batch: int = _BATCH, seconds: float = 30.0) -> None:
        self._client = Client(server, timeout=seconds)
        self._model, self._batch = model, batch

    def __call__(self, samples: Samples, version: int) -> np.ndarray:
        """Their vectors (S, D) by this version.

        Raises:
            ClientError: The server gives none.
        """
        blocks = [
            self._client.predict(
                self._model, request(samples, start, start + self._batch), signature="embed_users", version=version
            ).outputs["embedding"]
            for start in range(0, len(samples), self._batch)
        ]
        return np.concatenate(blocks) if blocks else np.zeros((0, 0))

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def request(samples: Samples, begin: int, end: int) -> dict[str, np.ndarray]:
    """The samples from `begin` up to `end` as inputs of `embed_users`."""
    end = min(end, len(samples))
    offsets = samples.offsets[begin : end + 1]
    size = np.diff(offsets)
    shape = (end - begin, max(1, int(size.max(initial=0))))
    there = np.arange(shape[1]) < size[:, None]
    events = slice(offsets[0], offsets[-1])
    values = {
        "age_seconds": np.maximum(0.0, np.repeat(samples.at[begin:end], size) - samples.event_at[events]),
        "dwell_seconds": samples.dwell[events],
        "scroll_depth": samples.scroll[events],
    }
    ids = np.full(shape, "", object)
    ids[there] = samples.item_id[events]
    inputs: dict[str, np.ndarray] = {"history_ids": ids}
    for name in _SIGNALS:
        column = np.zeros(shape, np.float32)
        column[there] = values[name]
        inputs[f"history_{name}"] = column
    inputs["language"], inputs["device"] = samples.language[begin:end], samples.device[begin:end]
    inputs["time_seconds"] = samples.at[begin:end].astype(np.int64)
    return inputs
