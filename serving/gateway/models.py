"""The versions of the model that are asked: the default, and those that experiments name by label."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from serving.events.items import ItemFacts
from serving.gateway.live_keeper import LiveKeeper
from serving.gateway.model import Model

_VISITS = 4  # labels asked because somebody looks at them; as many as a preview has variants
_VISIT_SECONDS = 600.0


class _Asked(NamedTuple):
    model: Model
    keeper: LiveKeeper
    task: asyncio.Task[None]


class Models:
    """For one event loop. Every version has live items of its own, and calls of its own.

    Args:
        make: The model of a label, and what keeps its live items.
        label: Of the default; empty for the newest version.
    """

    def __init__(self, make: Callable[[str], tuple[Model, LiveKeeper]], label: str) -> None:
        self._make, self._label = make, label
        self.default, self.keeper = make(label)
        self._asked: dict[str, _Asked] = {}
        self._running: set[str] = set()
        self._visited: dict[str, float] = {}  # until when, the oldest first
        self._task: asyncio.Task[None] | None = None

    def of(self, label: str | None) -> Model:
        """The model of a label; the default where it is not there (yet), or for None."""
        asked = self._asked.get(label or "")
        return self.default if asked is None or asked.model.version is None else asked.model

    @property
    def begun(self) -> bool:
        """Whether the default answers, or its server had no answer: before, it is about to."""
        return self.default.version is not None or self.keeper.in_vain

    def start(self) -> None:
        """Look for versions."""
        self._task = asyncio.create_task(self.keeper.run())

    async def want(self, labels: Iterable[str]) -> None:
        """Ask these labels from now on, besides the default and those that are visited, and no others."""
        self._running = set(labels)
        await self.settle()

    async def visit(self, label: str) -> None:
        """Ask a label too for some minutes: somebody looks at what it would answer."""
        self._visited.pop(label, None)
        self._visited[label] = time.monotonic() + _VISIT_SECONDS
        while len(self._visited) > _VISITS:
            del self._visited[next(iter(self._visited))]
        await self.settle()

    async def settle(self) -> None:
        """Ask those that are wanted by now, and end what was asked before."""
        now = time.monotonic()
        self._visited = {label: until for label, until in self._visited.items() if until > now}
        wanted = (self._running | self._visited.keys()) - {self._label}
        for label in wanted - self._asked.keys():
            model, keeper = self._make(label)
            self._asked[label] = _Asked(model, keeper, asyncio.create_task(keeper.run()))
        for label in self._asked.keys() - wanted:
            await _end(self._asked.pop(label).task)

    def changed(self, items: Sequence[ItemFacts]) -> None:
        """These items changed in the catalogue."""
        for keeper in (self.keeper, *(each.keeper for each in self._asked.values())):
            keeper.changed(items)

    async def stop(self) -> None:
        """Look no more."""
        self._visited.clear()
        await self.want([])
        if self._task is not None:
            await _end(self._task)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    # Who is cancelled while waiting here is to know of it: to await the task would hide whose cancellation it is.
    await asyncio.wait([task])
