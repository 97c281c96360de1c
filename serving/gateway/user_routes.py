"""Users as the log knows them, by the API."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Response
from pydantic import BaseModel

from serving.events.browsing import active_users, find_items
from serving.events.users import UserState, read_state
from serving.gateway.answers import json_answer
from serving.gateway.gateway import Gateway
from serving.gateway.item_routes import ItemFound, item_json
from serving.gateway.schemas import DIGITS, Id, Word

_FOUND_AT_ONCE = 500


class ActiveUserFound(BaseModel):
    """A user, when they last did something (microseconds since 1970), and how many of the latest events are theirs."""

    user_id: str
    at: int
    events: int


class ActiveUsers(BaseModel):
    """The latest to do something first."""

    users: list[ActiveUserFound]


class HistoryEntry(BaseModel):
    """An item that a user wanted, and when (microseconds since 1970); `item` is null where the store has none."""

    item_id: str
    at: int
    dwell_seconds: float
    scroll_depth: float
    item: ItemFound | None


class UserFound(BaseModel):
    """A user's history as the model is told of it, but the latest first. `device` is of the latest event that says one.

    `variant` is what the user is served by: of the experiments that run, or the default.
    """

    user_id: str
    variant: str
    device: str
    history: list[HistoryEntry]


def add_user_routes(app: FastAPI, gateway: Gateway, errors: Any) -> None:
    """Add what reads /v1/users.

    Args:
        errors: By statuses, what the document says of refusals.
    """
    read = errors(401, 403, 413, 415, 422, 429, 503)
    settings = gateway.settings

    @app.get("/v1/users", response_model=ActiveUsers, responses=read, tags=["users"])
    async def show(
        prefix: Annotated[Word, Query(description="Of the id.")] = "",
        limit: Annotated[int, Query(ge=1, le=100), DIGITS] = 20,
    ) -> Response:
        """Who wanted something lately: among the latest 20,000 events, not of all times."""
        found = await gateway.in_thread(active_users, gateway.store, limit, prefix)
        return json_answer({"users": [each._asdict() for each in found]})

    @app.get("/v1/users/{user_id:path}", response_model=UserFound, responses=read | errors(404), tags=["users"])
    async def show_one(user_id: Annotated[Id, Path(description="The user's id, percent-encoded.")]) -> Response:
        """A user's history; of somebody who was never here it is empty."""
        reading = partial(read_state, history=settings.history, seen=settings.seen)
        state: UserState = await gateway.in_thread(
            reading, gateway.store, user_id, positive_rating=settings.positive_rating
        )
        ids = list(dict.fromkeys(state.item_ids))
        items: dict[str, Any] = {}
        for start in range(0, len(ids), _FOUND_AT_ONCE):
            found = await gateway.in_thread(find_items, gateway.store, ids[start : start + _FOUND_AT_ONCE])
            items |= {each.item_id: item_json(each, gateway.now()) for each in found}
        history = [
            {
                "item_id": item_id,
                "at": round(at * 1_000_000),
                "dwell_seconds": dwell,
                "scroll_depth": scroll,
                "item": items.get(item_id),
            }
            for item_id, at, dwell, scroll in zip(*state[:4], strict=True)
        ]
        variant = gateway.assignments.of(user_id).variant
        return json_answer({"user_id": user_id, "variant": variant, "device": state.device, "history": history[::-1]})
