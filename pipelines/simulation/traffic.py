"""Readers at a gateway's API: they ask, they click, and the desk publishes and withdraws."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np

from pipelines.data.sources.newsroom.simulation import Slates
from pipelines.data.sources.newsroom.sizes import HOUR, SLATE
from pipelines.simulation.world import Hour, World

_AT_ONCE = 16
_EVENTS = 500  # in a request
_SECONDS = 60.0


@dataclass(frozen=True)
class Visits:
    """R visits and what came of them. The arrays are (R,)."""

    user: np.ndarray
    at: np.ndarray  # seconds since 1970
    variant: np.ndarray  # str
    version: np.ndarray  # -1 where no model answered
    fallback: np.ndarray  # bool
    shown: np.ndarray
    clicks: np.ndarray
    expected: np.ndarray  # true mean of the clicks on what was shown

    @classmethod
    def join(cls, some: Sequence[Visits]) -> Visits:
        return cls(*(np.concatenate([getattr(each, name) for each in some]) for name in cls.__dataclass_fields__))


class SimulatedClock:
    """Says what time it is in the world, as `serving.gateway.clock` does for the machine."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def __call__(self) -> int:
        return self.seconds * 1_000_000


class Traffic:
    """Plays a world's hours against a gateway.

    Args:
        url: The gateway's.
        clock: The gateway's too.
        names: Begins every event_id, so that two runs on one store do not mix.
    """

    def __init__(self, world: World, url: str, clock: SimulatedClock, names: str = "live") -> None:
        self._world, self._url, self._clock, self._names = world, url, clock, names
        self._events = 0

    def publish(self, begin: int, end: int) -> None:
        """Put the articles that appear in a time (seconds since 1970), and take off those that go."""
        with httpx.Client(base_url=self._url, timeout=_SECONDS) as client:
            for article in self._world.published(begin, end):
                item_id = article.pop("item_id")
                article["published_at"] = _time(article["published_at"])
                client.put(f"/v1/items/{item_id}", json=article).raise_for_status()
            for item_id in self._world.removed(begin, end):
                client.delete(f"/v1/items/{item_id}").raise_for_status()

    def play(self, hour: Hour) -> Visits:
        """An hour's readers ask at its beginning, when the front page is made, and are done at its end."""
        self._clock.seconds = hour.begin
        return asyncio.run(self._play(hour))

    async def _play(self, hour: Hour) -> Visits:
        places = asyncio.Semaphore(_AT_ONCE)
        async with httpx.AsyncClient(base_url=self._url, timeout=_SECONDS) as client:

            async def ask(user: int, at: int) -> dict[str, Any]:
                user_id, language, device = self._world.reader(user)
                context = {"language": language, "device": device, "time_seconds": at}
                body = {"user_id": user_id, "k": SLATE, "context": context}
                async with places:
                    answer = await client.post("/v1/recommendations", json=body)
                answer.raise_for_status()
                return dict(answer.json())

            feeds = await asyncio.gather(
                *(ask(int(user), int(at)) for user, at in zip(hour.user, hour.at, strict=True))
            )
            shown = [[item["item_id"] for item in feed["items"]] for feed in feeds]
            done = self._world.behave(hour, shown)
            self._clock.seconds = hour.begin + HOUR - 1
            events = self._events_of(done, shown, [feed["request_id"] for feed in feeds])
            for start in range(0, len(events), _EVENTS):
                answer = await client.post("/v1/events", json={"events": events[start : start + _EVENTS]})
                answer.raise_for_status()
        return Visits(
            user=hour.user,
            at=hour.at,
            variant=np.array([feed["variant"] for feed in feeds], object),
            version=np.array([-1 if feed["fallback"] else feed["model"]["version"] for feed in feeds], np.int64),
            fallback=np.array([feed["fallback"] is not None for feed in feeds], bool),
            shown=np.array([len(each) for each in shown], np.int64),
            clicks=done.clicked.sum(axis=1),
            expected=done.probability.sum(axis=1),
        )

    def _events_of(self, done: Slates, shown: list[list[str]], requests: list[str]) -> list[dict[str, Any]]:
        found = []
        for row, position in zip(*np.nonzero(done.clicked), strict=True):
            user_id, _, device = self._world.reader(int(done.user[row]))
            about = {"user_id": user_id, "item_id": shown[row][position], "request_id": requests[row]}
            about |= {"position": int(position), "device": device}
            dwell, scroll = float(done.dwell[row, position]), float(done.scroll[row, position])
            signals = {"dwell_seconds": round(dwell, 3), "scroll_depth": round(scroll, 4)}
            clicked = float(done.clicked_at[row, position])
            found.append(about | signals | {"kind": "click", "at": clicked})
            ended = clicked + dwell
            if done.read[row, position]:
                found.append(about | signals | {"kind": "read", "at": ended})
            for kind, happened, after in (("like", done.liked, 1), ("share", done.shared, 2)):
                if happened[row, position]:
                    found.append(about | {"kind": kind, "at": ended + after})
        for event in found:
            self._events += 1
            event["at"] = _time(min(event["at"], self._clock.seconds))
            event["event_id"] = f"{self._names}-{self._events:09}"
        return found


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
