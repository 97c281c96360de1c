"""The REST API, as a FastAPI application."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response
from pydantic import TypeAdapter
from starlette.routing import Match

from serving.gateway.answers import json_answer
from serving.gateway.catalogue import Wanted
from serving.gateway.console_routes import add_console
from serving.gateway.direct import Direct
from serving.gateway.document import complete_document
from serving.gateway.errors import Refused
from serving.gateway.experiment_routes import add_experiment_routes
from serving.gateway.failures import ANSWERED, answer, failure
from serving.gateway.feeds import Ask, Feed
from serving.gateway.gateway import Gateway
from serving.gateway.item_routes import ItemId, add_item_route, add_item_routes
from serving.gateway.monitoring_routes import add_monitoring_routes
from serving.gateway.preview_routes import add_preview_routes
from serving.gateway.schemas import (
    DIGITS,
    FUTURE_SECONDS,
    Event,
    Events,
    EventsAccepted,
    Failure,
    Health,
    Id,
    Item,
    Items,
    ItemsStored,
    ItemStored,
    RecommendationRequest,
    Recommendations,
    UserErased,
    Word,
    microseconds,
)
from serving.gateway.user_routes import add_user_routes
from serving.gateway.version_routes import add_version_routes

_ERRORS = {
    401: "No key that counts.",
    403: "The key has not the scope.",
    404: "There is nothing.",
    409: "It cannot be beside what there is, such as an experiment with the users of another.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    422: "The request is wrong, such as an event of a time that is to come; the sentence says what.",
    429: "Too much at once, or of this key in this second. See Retry-After.",
    503: "The store cannot write at the moment: nothing was taken. See Retry-After.",
}


def _failures(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Failure, "description": _ERRORS[code]} for code in codes}


_READ = _failures(401, 403, 413, 415, 422, 429)
_WRITE = _failures(401, 403, 413, 415, 422, 429, 503)
_ONE = _WRITE | _failures(404)
_GOES_ON: dict[int | str, dict[str, Any]] = {
    202: {"model": UserErased, "description": "Erased; a log is yet to be emptied."}
}


def create_app(gateway: Gateway) -> Direct:
    """The application without its guard."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.stop()

    app = FastAPI(
        title="Belfry gateway",
        summary="A personalised feed above a model server.",
        version="1",
        lifespan=lifespan,
        redirect_slashes=False,  # the guard has asked for the scope of the path as it was
        docs_url=None,
        redoc_url=None,
    )
    settings = gateway.settings

    @app.post("/v1/recommendations", response_model=Recommendations, responses=_READ, tags=["feed"])
    async def recommend(request: RecommendationRequest) -> Response:
        """A user's feed. It comes within the deadline; `fallback` says what stood in where the model could not."""
        begun = time.perf_counter()
        _check_k(gateway, request.k)
        context = request.context
        ask = Ask(
            request.user_id,
            request.k,
            request.placement,
            Wanted(frozenset(request.filters.languages), frozenset(request.filters.categories)),
            tuple(request.exclude),
            context.language,
            context.device,
            gateway.now() // 10**6 if context.time_seconds is None else context.time_seconds,
        )
        request_id = uuid.uuid4().hex
        assigned = gateway.assignments.of(ask.user_id)
        feed = await gateway.recommender.recommend(ask, assigned, request_id)
        gateway.record(ask, feed, request_id, assigned.variant, time.perf_counter() - begun)
        return _feed(gateway, feed, request_id, assigned.variant)

    @app.post("/v1/events", status_code=202, response_model=EventsAccepted, responses=_WRITE, tags=["events"])
    async def append(request: Events | Event) -> Response:
        """What users did: one event, or {"events": [...]}. 202 means that it is on disk; send it again otherwise."""
        sent = request.events if isinstance(request, Events) else [request]
        if len(sent) > settings.max_events:
            raise Refused(422, f"At most {settings.max_events} events can be sent at once.")
        now = gateway.now()
        rows = [_row(event, now) for event in sent]
        new = await gateway.append(rows)
        return json_answer({"accepted": len(rows), "new": new}, 202)

    @app.put("/v1/items/{item_id:path}", response_model=ItemStored, responses=_ONE, tags=["items"])
    async def put(item_id: ItemId, item: Item) -> Response:
        """Add an item, or replace all that is known of it. It can be recommended at once."""
        _, live = await gateway.put([_item(item_id, item)])
        return json_answer({"item_id": item_id, "on_offer": True, "live": live})

    @app.delete("/v1/items/{item_id:path}", response_model=ItemStored, responses=_ONE, tags=["items"])
    async def remove(item_id: ItemId) -> Response:
        """Take an item off offer, also one that only the model knows. Histories still know it."""
        await gateway.remove(item_id)
        return json_answer({"item_id": item_id, "on_offer": False, "live": False})

    @app.post("/v1/items", response_model=ItemsStored, responses=_WRITE, tags=["items"])
    async def put_many(request: Items) -> Response:
        """Add or replace several items; all of them, or none."""
        await gateway.put([_item(each.item_id, each) for each in request.items])
        return json_answer({"items": len(request.items)})

    @app.get(
        "/v1/items/{item_id:path}/similar",
        response_model=Recommendations,
        responses=_READ | _failures(404),
        tags=["feed"],
    )
    async def similar(
        item_id: ItemId,
        k: Annotated[int, Query(ge=1, le=1_000), DIGITS] = 10,
        language: Annotated[Word, Query(description="Only items of this language.")] = "",
        category: Annotated[Word, Query(description="Only items of this category.")] = "",
    ) -> Response:
        """What the model recommends to somebody who has read this item and nothing else."""
        _check_k(gateway, k)
        item = gateway.catalogue.items.get(item_id)
        if item is None or item.removed_at:
            raise Refused(404, "There is no such item.")
        wanted = Wanted(frozenset(filter(None, [language])), frozenset(filter(None, [category])))
        feed = await gateway.recommender.similar(item_id, k, wanted)
        return _feed(gateway, feed, uuid.uuid4().hex, settings.variant)

    @app.delete("/v1/users/{user_id:path}", response_model=UserErased, responses=_ONE | _GOES_ON, tags=["users"])
    async def erase(user_id: Annotated[Id, Path(description="The user's id, percent-encoded.")]) -> Response:
        """Erase a user: events, slates, and what is cached.

        202 where another process still reads a log of the database that holds what was deleted: it is emptied as soon
        as can be.
        """
        erased = await gateway.erasures.erase(user_id, gateway.now())
        return json_answer({"rows": erased.rows}, 200 if erased.complete else 202)

    for add in (
        add_item_routes,
        add_preview_routes,
        add_item_route,
        add_user_routes,
        add_experiment_routes,
        add_version_routes,
        add_monitoring_routes,
    ):
        add(app, gateway, _failures)
    add_console(app)

    @app.get("/readyz", response_model=Health, responses={503: {"model": Health}}, tags=["service"])
    async def ready() -> Response:
        """Whether requests may be sent here: the model answers, or is away, and fallbacks do."""
        version, live = gateway.models.default.version, gateway.models.default.live
        status = "stopping" if gateway.draining else "ready" if gateway.ready() else "starting"
        body = {
            "status": status,
            "model": {"name": settings.model, "version": version.number if version else None},
            "items": len(gateway.catalogue),
            "live_items": len(live) if live is not None else 0,
        }
        return json_answer(body, 200 if gateway.ready() else 503)

    @app.get("/healthz", response_model=Health, response_model_exclude_none=True, tags=["service"])
    async def health() -> Response:
        """Whether the process answers."""
        return json_answer({"status": "ok"})

    @app.get(
        "/metrics",
        response_class=Response,
        responses=_failures(401, 403, 429) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        tags=["service"],
    )
    async def metrics() -> Response:
        """Counts for Prometheus."""
        gateway.gauge()
        return Response(gateway.metrics.text(), media_type="text/plain; version=0.0.4")

    _answer_errors(app)
    complete_document(app, settings.max_k)
    return Direct(
        app,
        {
            "/v1/recommendations": (TypeAdapter(RecommendationRequest), recommend),
            "/v1/events": (TypeAdapter(Events | Event), append),
        },
    )


def _check_k(gateway: Gateway, k: int) -> None:
    if k > gateway.settings.max_k:
        raise Refused(422, f"`k` must be from 1 to {gateway.settings.max_k}.")


def _feed(gateway: Gateway, feed: Feed, request_id: str, variant: str) -> Response:
    return json_answer(
        {
            "request_id": request_id,
            "model": {"name": gateway.settings.model, "version": feed.version},
            "variant": variant,
            "items": [
                {"item_id": each.item_id, "score": each.score, "position": place, "reason": each.reason}
                for place, each in enumerate(feed.items)
            ],
            "fallback": feed.fallback,
        }
    )


def _row(event: Event, now: int) -> dict[str, Any]:
    row = dict(event)  # not a dump: its values are what is stored
    at = microseconds(event.at)
    if at is not None and at > now + FUTURE_SECONDS * 1_000_000:
        raise Refused(422, "`at` is later than now.")
    row["at"] = now if at is None else min(at, now)
    return row


def _item(item_id: str, item: Item) -> dict[str, Any]:
    known = {name: value or None for name, value in item if name != "item_id"}
    return known | {"item_id": item_id, "published_at": microseconds(item.published_at)}


def _methods(app: FastAPI, request: Request) -> set[str]:
    routes = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in routes for method in getattr(route, "methods", None) or ()}


def _answer_errors(app: FastAPI) -> None:
    async def failed(request: Request, error: Exception) -> Response:
        found = failure(error)
        assert found is not None
        if found.status_code == 405:
            # Starlette names the methods of the first route with this path, and there are several.
            found.headers["allow"] = ", ".join(sorted(_methods(app, request)))
        return found

    async def broken(request: Request, error: Exception) -> Response:
        # The guard, which the error reaches too, logs it.
        return answer(Refused(500, "The server failed; its log says why."))

    for kind in ANSWERED:
        app.add_exception_handler(kind, failed)
    app.add_exception_handler(Exception, broken)
