"""What is remembered of users between requests: their states, vectors and answers.

An entry is a user's; their next event, or their erasure, drops it as a whole. Since a state may be on its way from the
database while that happens, a writer hands back the generation it read, and what is of an older one is not kept.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import struct
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from serving.gateway.metrics import Metrics

_log = logging.getLogger(__name__)
_FIELDS_KEPT = 16  # of one user: a state, a vector, answers of several placements
_DELIVERED = 500  # users dropped in one call
_REST_SECONDS = 2.0  # Redis is left alone after a failure


class Entry(NamedTuple):
    """A user's fields that have not expired, and the generation to hand back."""

    fields: Mapping[str, bytes]
    generation: int


class UserCache(Protocol):
    """Where entries are; what cannot be reached is as if it were empty, and never an error."""

    async def read(self, user_id: str) -> Entry: ...

    async def write(self, user_id: str, generation: int, field: str, value: bytes, seconds: float) -> None: ...

    async def drop(self, user_ids: list[str]) -> None: ...

    async def forget(self, user_id: str) -> None: ...

    async def clear(self) -> None: ...

    async def close(self) -> None: ...


class LocalCache:
    """In this process; the least recently used user goes first.

    Args:
        most: Users.
        clock: Seconds, for tests.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._entries: OrderedDict[str, dict[str, tuple[float, bytes]]] = OrderedDict()
        self._generations: OrderedDict[str, int] = OrderedDict()
        self._least = 0  # generation of users who are not listed
        self._next = 1

    def __len__(self) -> int:
        return len(self._entries)

    async def read(self, user_id: str) -> Entry:
        generation = self._generations.get(user_id, self._least)
        kept = self._entries.get(user_id)
        if kept is None:
            return Entry({}, generation)
        self._entries.move_to_end(user_id)
        now = self._clock()
        return Entry({field: value for field, (until, value) in kept.items() if until > now}, generation)

    async def write(self, user_id: str, generation: int, field: str, value: bytes, seconds: float) -> None:
        if not self._most or seconds <= 0 or generation != self._generations.get(user_id, self._least):
            return
        kept = self._entries.get(user_id)
        if kept is None:
            kept = self._entries[user_id] = {}
            if len(self._entries) > self._most:
                self._entries.popitem(last=False)
        kept.pop(field, None)
        kept[field] = self._clock() + seconds, value
        if len(kept) > _FIELDS_KEPT:
            del kept[next(iter(kept))]

    async def drop(self, user_ids: list[str]) -> None:
        for user_id in user_ids:
            self._entries.pop(user_id, None)
            self._generations.pop(user_id, None)
            self._generations[user_id] = self._next
            self._next += 1
        while len(self._generations) > 10_000:
            # Writers under way for those that are forgotten here are turned away, all of them.
            self._generations.popitem(last=False)
            self._least = self._next
            self._next += 1

    async def forget(self, user_id: str) -> None:
        """Drop a user without keeping even that they were dropped; all writers under way are turned away."""
        self._entries.pop(user_id, None)
        self._generations.pop(user_id, None)
        self._least = self._next
        self._next += 1

    async def clear(self) -> None:
        self._entries.clear()
        self._generations.clear()
        self._least = self._next
        self._next += 1

    async def close(self) -> None:
        self._entries.clear()


# A hash a user, under a hash of their id; each field begins with when it expires. The generation is a key of its own,
# since it must outlive the entry.
_WRITE = """
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then return 0 end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1
"""
_GENERATION_SECONDS = 60
_FORGOTTEN_SECONDS = 6  # longer than an answer may be under way


class RedisCache:
    """In Redis, for several gateways: one's event drops what another has cached.

    Args:
        url: `redis://host:port/number`.
        seconds: After which Redis counts as away.
        longest: Seconds that anything is kept.
    """

    def __init__(self, url: str, metrics: Metrics, seconds: float, *, longest: float) -> None:
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        self._redis: Any = Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=None)
        self._write = self._redis.register_script(_WRITE)
        self._errors = (RedisError, OSError, TimeoutError)
        self._metrics = metrics
        self._away_until = 0.0
        self._longest = longest + _FORGOTTEN_SECONDS
        self._undelivered: dict[str, float] = {}  # users to drop when Redis is back, and since when, the oldest first

    async def read(self, user_id: str) -> Entry:
        key = _key(user_id)

        async def ask() -> Entry:
            pipe = self._redis.pipeline(transaction=False)
            # In this order: of a user who is dropped in between nothing is found, or nothing can be written.
            pipe.get(f"belfry:g:{key}")
            pipe.hgetall(f"belfry:u:{key}")
            generation, kept = await pipe.execute()
            now = time.time()
            fields = {name.decode(): value[8:] for name, value in kept.items() if _until(value) > now}
            return Entry(fields, int(generation or 0))

        return await self._try(ask, Entry({}, -1))

    async def write(self, user_id: str, generation: int, field: str, value: bytes, seconds: float) -> None:
        if generation < 0 or seconds <= 0:
            return
        key = _key(user_id)
        keys = [f"belfry:u:{key}", f"belfry:g:{key}"]
        stamped = struct.pack("<d", time.time() + seconds) + value
        values: list[bytes | str | int] = [generation, field, stamped, int(seconds * 1000), _FIELDS_KEPT]
        await self._try(lambda: self._write(keys=keys, args=values), None)

    async def drop(self, user_ids: list[str]) -> None:
        if user_ids and not await self._try(lambda: self._drop(user_ids, _GENERATION_SECONDS), False):
            self._drop_later(user_ids)

    async def forget(self, user_id: str) -> None:
        """Drop a user; that they were dropped is kept as long as an answer may be under way, under a hash."""
        if not await self._try(lambda: self._drop([user_id], _FORGOTTEN_SECONDS), False):
            self._drop_later([user_id])

    def _drop_later(self, user_ids: list[str]) -> None:
        now = time.monotonic()
        for user_id in user_ids:
            self._undelivered.pop(user_id, None)
            self._undelivered[user_id] = now
        # What was kept of the others has expired by now.
        while self._undelivered and now - next(iter(self._undelivered.values())) > self._longest:
            del self._undelivered[next(iter(self._undelivered))]

    async def _drop(self, user_ids: list[str], seconds: int) -> bool:
        pipe = self._redis.pipeline(transaction=True)
        for user_id in user_ids:
            key = _key(user_id)
            pipe.incr(f"belfry:g:{key}")
            pipe.expire(f"belfry:g:{key}", seconds)
            pipe.delete(f"belfry:u:{key}")
        await pipe.execute()
        return True

    async def clear(self) -> None:
        """Nothing: what one gateway erases, it has deleted for all."""

    async def close(self) -> None:
        await self._redis.aclose()

    async def _try(self, ask: Callable[[], Awaitable[Any]], otherwise: Any) -> Any:
        if time.monotonic() < self._away_until:
            return otherwise
        try:
            while self._undelivered:
                # What was dropped while Redis was away comes first; in parts, each of which has its time.
                late = dict(itertools.islice(self._undelivered.items(), _DELIVERED))
                await self._drop(list(late), _GENERATION_SECONDS)
                for user_id, since in late.items():
                    # One that was to be dropped once more meanwhile stays.
                    if self._undelivered.get(user_id) == since:
                        del self._undelivered[user_id]
            return await ask()
        except self._errors as error:
            self._away_until = time.monotonic() + _REST_SECONDS
            self._metrics.cache_errors.inc()
            _log.warning("Redis is away (%s); going on without a cache.", type(error).__name__)
            return otherwise


def _key(user_id: str) -> str:
    # Redis need not know who they are.
    return hashlib.sha256(user_id.encode()).hexdigest()[:32]


def _until(value: bytes) -> float:
    return float(struct.unpack_from("<d", value)[0])
