"""Feeds that nobody is shown: what variants would answer side by side, and who would get an item."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from serving.client import BadCall, ClientError, NotServed
from serving.events.browsing import active_users
from serving.experiments.declaration import Name, Treatment
from serving.gateway.answers import json_answer
from serving.gateway.catalogue import Wanted
from serving.gateway.errors import ModelAway, Refused
from serving.gateway.feeds import Ask, Feed
from serving.gateway.gateway import Gateway
from serving.gateway.item_routes import ItemId
from serving.gateway.schemas import DIGITS, NUMBER, Id, ModelName, RecommendedItem

_SECONDS = 5.0  # longer than for a reader: nobody waits for a page to appear
_AT_ONCE = 8  # feeds under way for one question, so that readers' requests find room in a batch
_ALL_SECONDS = 20.0  # for all feeds of one question
_PLACEMENT = "preview"
_SLOW = "The model takes too long."


class PreviewRequest(BaseModel):
    """Whose feed, and by which treatments; each changes the gateway's own settings, and {} leaves them."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    user_id: Id
    k: Annotated[int, Field(ge=1, le=100, description="items; the server has a limit of its own"), NUMBER] = 10
    variants: Annotated[dict[Name, Treatment], Field(min_length=1, max_length=4)]


class PreviewedFeed(BaseModel):
    """A feed by one treatment. `fallback` is `default` where its own model is away, else null."""

    model: ModelName
    items: list[RecommendedItem]
    fallback: str | None


class Preview(BaseModel):
    """By variant."""

    feeds: dict[str, PreviewedFeed]


class Reader(BaseModel):
    """A user in whose feed an item is, with its place (from 0), score and reason there."""

    user_id: str
    position: int
    score: float
    reason: str


class Readers(BaseModel):
    """Who would get an item now, of `asked` users who were active last; those who get it first come first.

    `away` of them could not be told: the model gave no answer.
    """

    item_id: str
    k: int
    asked: int
    away: int
    readers: list[Reader]


def add_preview_routes(app: FastAPI, gateway: Gateway, errors: Any) -> None:
    """Add /v1/preview and /v1/items/{item_id}/readers.

    Args:
        errors: By statuses, what the document says of refusals.
    """
    refused = errors(401, 403, 404, 413, 415, 422, 429, 503)

    @app.post("/v1/preview", response_model=Preview, responses=refused, tags=["experiments"])
    async def preview(request: PreviewRequest) -> Response:
        """What a user's feed would be by several treatments. It is not logged, and nothing in it is left to chance."""
        _check_k(gateway, request.k)
        for label in sorted({each.label for each in request.variants.values() if each.label}):
            await _visit(gateway, label)
        feeds = {}
        for name, treatment in request.variants.items():
            feed = await _feed(gateway, request.user_id, request.k, treatment)
            if isinstance(feed, str):
                raise Refused(503, f"There is no feed at the moment: {feed}", retry_after=1)
            feeds[name] = _shown(gateway, feed)
        return json_answer({"feeds": feeds})

    @app.get("/v1/items/{item_id:path}/readers", response_model=Readers, responses=refused, tags=["users"])
    async def readers(
        item_id: ItemId,
        k: Annotated[int, Query(ge=1, le=100, description="items of each feed"), DIGITS] = 10,
        users: Annotated[int, Query(ge=1, le=500, description="asked for, those active last"), DIGITS] = 100,
    ) -> Response:
        """Who would get an item: in whose feed it is now, among the users who were active last.

        Not who has read it: it is shown to nobody twice. Experiments and chance are left out.
        """
        _check_k(gateway, k)
        if not gateway.catalogue.on_offer(item_id, gateway.now()) or item_id not in gateway.catalogue.items:
            raise Refused(404, "There is no such item on offer.")
        latest = await gateway.in_thread(active_users, gateway.store, users)
        slots = asyncio.Semaphore(_AT_ONCE)
        until = time.monotonic() + _ALL_SECONDS

        async def ask(user_id: str) -> Feed | str:
            async with slots:
                return await _feed(gateway, user_id, k, Treatment()) if time.monotonic() < until else _SLOW

        feeds = await asyncio.gather(*(ask(each.user_id) for each in latest))
        found = [
            {"user_id": user.user_id, "position": place, "score": shown.score, "reason": shown.reason}
            for user, feed in zip(latest, feeds, strict=True)
            if isinstance(feed, Feed)
            for place, shown in enumerate(feed.items)
            if shown.item_id == item_id
        ]
        found.sort(key=lambda each: (each["position"], -each["score"], each["user_id"]))
        away = sum(isinstance(feed, str) for feed in feeds)
        return json_answer({"item_id": item_id, "k": k, "asked": len(latest), "away": away, "readers": found})


async def _visit(gateway: Gateway, label: str) -> None:
    try:
        await gateway.visit(label)
    except (BadCall, NotServed):  # a server of TensorFlow calls an unknown label a wrong request
        raise Refused(404, f"No version of {gateway.settings.model} has the label {label}.") from None
    except ClientError:
        raise Refused(503, "The model server gives no answer at the moment.", retry_after=1) from None


async def _feed(gateway: Gateway, user_id: str, k: int, treatment: Treatment) -> Feed | str:
    """The feed, or why there is none."""
    own = gateway.assignments.default.treatment
    asked = Ask(user_id, k, _PLACEMENT, Wanted(), (), "", "", gateway.now() // 10**6)
    try:
        async with asyncio.timeout(_SECONDS):
            return await gateway.recommender.preview(asked, Treatment(**own.changes | treatment.changes))
    except ModelAway as error:
        return str(error)
    except TimeoutError:
        return _SLOW


def _check_k(gateway: Gateway, k: int) -> None:
    if k > gateway.settings.max_k:
        raise Refused(422, f"`k` must be from 1 to {gateway.settings.max_k}.")


def _shown(gateway: Gateway, feed: Feed) -> dict[str, Any]:
    return {
        "model": {"name": gateway.settings.model, "version": feed.version},
        "items": [
            {"item_id": each.item_id, "score": each.score, "position": place, "reason": each.reason}
            for place, each in enumerate(feed.items)
        ],
        "fallback": feed.fallback,
    }
