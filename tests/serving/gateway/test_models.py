"""The versions that are asked, which come and go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serving.gateway.models import Models


class Keeper:
    """One that takes a moment to end, as one does that is embedding."""

    async def run(self) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)


class Named:
    version = None

    def __init__(self, label: str) -> None:
        self.label = label


def make(label: str) -> Any:
    return Named(label), Keeper()


def test_who_is_cancelled_while_a_label_goes_is_cancelled() -> None:
    async def play() -> None:
        models = Models(make, "champion")
        await models.want(["canary", "champion"])
        await asyncio.sleep(0)
        going = asyncio.create_task(models.want([]))
        await asyncio.sleep(0.01)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        await models.stop()

    asyncio.run(play())
