"""What is known of items, by the API; how they are put and removed is in `app`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Response
from pydantic import BaseModel

from serving.events.browsing import FoundItem, find_items, read_image, search_items
from serving.gateway.answers import json_answer
from serving.gateway.errors import Refused
from serving.gateway.gateway import Gateway
from serving.gateway.pictures import picture_type
from serving.gateway.schemas import DIGITS, Id, Word

ItemId = Annotated[Id, Path(description="The item's id, percent-encoded.")]


class ItemFound(BaseModel):
    """What is stored of an item, but for its body and picture. `published_at` is microseconds since 1970."""

    item_id: str
    title: str
    language: str
    category: str
    tags: list[str]
    published_at: int | None
    on_offer: bool
    has_image: bool


class ItemsFound(BaseModel):
    """Items in the order asked for, or those that changed last first."""

    items: list[ItemFound]


def add_item_routes(app: FastAPI, gateway: Gateway, errors: Any) -> None:
    """Add what reads /v1/items. The path that ends with the id comes last: an id may hold anything.

    Args:
        errors: By statuses, what the document says of refusals.
    """
    read, one = errors(401, 403, 413, 415, 422, 429, 503), errors(401, 403, 404, 413, 415, 422, 429, 503)
    tags: Any = ["items"]

    @app.get("/v1/items", response_model=ItemsFound, responses=read, tags=tags)
    async def show(
        item_id: Annotated[
            list[Id], Query(max_length=100, description="These items; one not stored is left out.")
        ] = [],  # noqa: B006
        text: Annotated[Word, Query(description="In the id or title. Of the items that changed last.")] = "",
        limit: Annotated[int, Query(ge=1, le=100), DIGITS] = 20,
    ) -> Response:
        """Items by id, or else by a text in them, or else those that changed last."""
        if item_id:
            found = await gateway.in_thread(find_items, gateway.store, item_id)
        else:
            found = await gateway.in_thread(search_items, gateway.store, text, limit)
        return json_answer({"items": [item_json(each, gateway.now()) for each in found]})

    image: Any = {"content": {kind: {"schema": {"type": "string"}} for kind in ("image/jpeg", "image/png")}}

    @app.get("/v1/items/{item_id:path}/image", response_class=Response, responses=one | {200: image}, tags=tags)
    async def show_image(item_id: ItemId) -> Response:
        """An item's picture, as the file that was put."""
        content = await gateway.in_thread(read_image, gateway.store, item_id)
        kind = picture_type(content) if content else None
        if kind is None:
            raise Refused(404, "The item has no picture.")
        # What an import stored was not looked at: a browser is to take it for nothing else.
        return Response(content, media_type=kind, headers={"x-content-type-options": "nosniff"})


def add_item_route(app: FastAPI, gateway: Gateway, errors: Any) -> None:
    """Add GET /v1/items/{item_id}, after all that has more behind the id."""

    @app.get(
        "/v1/items/{item_id:path}",
        response_model=ItemFound,
        responses=errors(401, 403, 404, 413, 415, 422, 429, 503),
        tags=["items"],
    )
    async def show_one(item_id: ItemId) -> Response:
        """What is known of an item; one that is no longer on offer too."""
        found = await gateway.in_thread(find_items, gateway.store, [item_id])
        if not found:
            raise Refused(404, "There is no such item.")
        return json_answer(item_json(found[0], gateway.now()))


def item_json(item: FoundItem, now: int) -> dict[str, Any]:
    """As the API shows an item."""
    shown = item._asdict()
    removed = shown.pop("removed_at")
    return shown | {"on_offer": not (removed and removed <= now) and (item.published_at or 0) <= now}
