"""Users' states and vectors: from the cache, else from the store or the model."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import orjson

from serving.events import Store
from serving.events.users import UserState, read_state
from serving.gateway.caches import Entry, UserCache
from serving.gateway.metrics import Metrics
from serving.gateway.model import Model, Query
from serving.gateway.settings import Settings


class Users:
    """Asked for each request. Threads read the database, so that the loop stays free."""

    def __init__(
        self, store: Store, cache: UserCache, settings: Settings, metrics: Metrics, threads: ThreadPoolExecutor
    ) -> None:
        self._cache, self._settings, self._metrics = cache, settings, metrics
        self._threads = threads
        # What another gateway keeps in the same Redis may be made otherwise.
        self._field = f"state:{settings.history}:{settings.seen}:{settings.positive_rating}"
        self._read = partial(
            read_state,
            store,
            history=settings.history,
            seen=settings.seen,
            positive_rating=settings.positive_rating,
        )

    async def state(self, user_id: str, entry: Entry) -> UserState:
        """The user's history and what they have seen.

        Raises:
            StoreAway: It is not cached, and the database cannot be reached.
        """
        kept = entry.fields.get(self._field)
        self._metrics.looked_up("state", kept is not None)
        if kept is not None:
            return UserState(*orjson.loads(kept))
        state = await asyncio.get_running_loop().run_in_executor(self._threads, self._read, user_id)
        if self._settings.state_seconds:
            value = orjson.dumps(tuple(state))
            await self._cache.write(user_id, entry.generation, self._field, value, self._settings.state_seconds)
        return state

    async def vector(self, user_id: str, entry: Entry, model: Model, query: Query) -> np.ndarray:
        """The user's vector (D,). A cached one is as old as the state at most: time of day may have moved.

        Raises:
            ModelAway: It is not cached, and the model gives no answer.
        """
        version = model.version.number if model.version else 0
        field = f"vector:{model.name}:{version}:{query.language}:{query.device}"
        kept = entry.fields.get(field)
        self._metrics.looked_up("vector", kept is not None)
        if kept is not None:
            return np.frombuffer(kept, np.float32)
        vector = await model.embed_user(query)
        if self._settings.state_seconds:
            value = vector.astype(np.float32).tobytes()
            await self._cache.write(user_id, entry.generation, field, value, self._settings.state_seconds)
        return vector
