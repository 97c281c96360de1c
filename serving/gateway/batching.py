"""Micro-batching: requests of the same moment share one call of the model."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from serving.gateway.errors import ModelAway

_GATHER_SECONDS = 0.002
RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")


class Batcher(Generic[RequestT, ResultT]):
    """Gathers while calls are under way, and 2 ms longer before a call that follows another; an idle model is asked at
    once. A call costs about as much for one user as for ten where what it reads most is the index.

    Args:
        run: Answers a batch, in its order.
        most: Requests in a batch.
        at_once: Calls at once.
        most_waiting: Requests that wait for a call; what is more would wait in vain, and is refused at once.
    """

    def __init__(
        self,
        run: Callable[[Sequence[RequestT]], Awaitable[Sequence[ResultT]]],
        *,
        most: int,
        at_once: int,
        most_waiting: int,
    ) -> None:
        self._run = run
        self._most_waiting = most_waiting
        self._most, self._at_once = most, at_once
        self._waiting: deque[tuple[RequestT, asyncio.Future[ResultT]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    async def ask(self, request: RequestT) -> ResultT:
        """The answer to one request, or what its batch failed with.

        Raises:
            ModelAway: Too many are waiting.
        """
        if len(self._waiting) >= self._most_waiting:
            raise ModelAway("Too many requests are waiting for the model.")
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if len(self._under_way) < self._at_once:
            self._start()
        return await future

    def _start(self, follows: bool = False) -> None:
        batch: list[tuple[RequestT, asyncio.Future[ResultT]]] = []
        while self._waiting and len(batch) < self._most:
            request, future = self._waiting.popleft()
            if not future.done():  # whoever has given up need not be answered
                batch.append((request, future))
        if batch:
            task = asyncio.create_task(self._answer(batch, _GATHER_SECONDS if follows else 0.0))
            self._under_way.add(task)

    async def _answer(self, batch: list[tuple[RequestT, asyncio.Future[ResultT]]], wait: float) -> None:
        try:
            # At least one turn of the loop, in which what has arrived already can join.
            await asyncio.sleep(wait)
            while self._waiting and len(batch) < self._most and len(self._under_way) >= self._at_once:
                request, future = self._waiting.popleft()
                batch.append((request, future))
            # Where too much is asked, most of it has been given up by now: to answer it would make the rest late too.
            batch = [each for each in batch if not each[1].done()]
            results = await self._run([request for request, _ in batch]) if batch else []
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    if isinstance(error, Exception):
                        future.set_exception(error)
                    else:
                        future.cancel()
            if not isinstance(error, Exception):
                raise
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._under_way.discard(task)
            if self._waiting:
                self._start(follows=True)
