"""What every request passes before the application: its id, limits and key; and after it: a count and a line of log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, TypeAlias

import orjson

from serving.events.keys import Key, KeyRing
from serving.gateway.bodies import Bodies, Gone
from serving.gateway.errors import Refused
from serving.gateway.metrics import Metrics
from serving.gateway.settings import Settings
from serving.listening import is_another_site, names_an_address

_log = logging.getLogger("serving.gateway.requests")

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Route(NamedTuple):
    """What a path is called where it is counted (a path itself may hold a user's id), and the scope it needs: None for
    no key at all, "" for any key."""

    name: str
    scope: str | None


_NOWHERE = Route("unknown", "")
# The application matches with patterns, whose `$` is also before a last newline: it would find routes that the guard
# does not.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_OPEN_BODY_BYTES = 1_024  # where no key is asked for, no body is either
_OPEN = {"/healthz", "/readyz", "/openapi.json"}


def route_of(method: str, path: str) -> Route:
    """The route of a request; what is not known needs a key all the same, and never reaches the application."""
    if _CONTROL.search(path):
        return _NOWHERE
    if path in _OPEN:
        return Route(path, None)
    if path == "/" or path.startswith("/console/"):
        # Pages without anything in them: that comes by the routes below.
        return Route("console", None if method in ("GET", "HEAD") else "")
    if path == "/v1/recommendations":
        return Route(path, "recommend")
    if path == "/v1/events":
        return Route(path, "events")
    if path == "/metrics":
        return Route(path, "metrics")
    if path in ("/v1/live", "/v1/measures", "/v1/alerts"):
        return Route(path, "metrics")
    if path in ("/v1/models", "/v1/models/promote", "/v1/models/retire", "/v1/models/rollback"):
        return Route(path, "models")
    if path == "/v1/preview":
        return Route(path, "experiments")
    if path == "/v1/users":
        return Route(path, "users")
    if path.startswith("/v1/users/"):
        return Route("/v1/users/{user_id}", "users")
    if path == "/v1/experiments":
        return Route(path, "experiments")
    if path.startswith("/v1/experiments/"):
        return Route("/v1/experiments/{name}", "experiments")
    if path == "/v1/items" or path.startswith("/v1/items/"):
        return _item_route(method, path)
    return _NOWHERE


def _item_route(method: str, path: str) -> Route:
    """Whoever may ask for feeds may read what items are; whom they suit is about users."""
    reads = method in ("GET", "HEAD")
    if path == "/v1/items":
        return Route(path, "recommend" if reads else "items")
    for end, scope in (("similar", "recommend"), ("image", "recommend"), ("readers", "users")):
        if reads and path.endswith(f"/{end}"):
            return Route(f"/v1/items/{{item_id}}/{end}", scope)
    return Route("/v1/items/{item_id}", "recommend" if reads else "items")


class Guard:
    """An ASGI application around another.

    Args:
        needs_key: Whether even a store without keys lets nobody in.
    """

    def __init__(self, app: App, settings: Settings, metrics: Metrics, *, needs_key: bool) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._needs_key = needs_key
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens and since when, by key
        self.keys = KeyRing()
        self.under_way = 0
        self._bodies = Bodies(settings.max_bytes_under_way)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        headers = {name: value for name, value in scope["headers"] if name in _READ}
        request_id = _request_id(headers.get(b"x-request-id"))
        route = route_of(scope["method"], scope["path"])
        told = _Told(send, request_id)
        key: Key | None = None
        held = 0
        self.under_way += 1
        self._metrics.under_way.set(self.under_way)
        try:
            if route.scope is not None:
                key = self._admit(headers, route.scope)
            if route is _NOWHERE:
                raise Refused(404, "There is nothing here.")
            most = self._settings.max_body_bytes if route.scope is not None else _OPEN_BODY_BYTES
            body = await self._bodies.read(receive, most, headers.get(b"content-length"))
            held = len(body)
            # Strictly: a page of another site may send any other type to this machine without asking.
            if body and not headers.get(b"content-type", b"").startswith(b"application/json"):
                raise Refused(415, "Send the body as JSON, with the header Content-Type: application/json.")
            await self._app(scope, _Replay(body, receive), told)
        except Gone:
            pass
        except Refused as error:
            await told.refuse(error)
        except Exception:
            _log.exception("%s %s failed.", scope["method"], route.name)
            await told.refuse(Refused(500, "The server failed; its log says why."))
        finally:
            self._bodies.release(held)
            self.under_way -= 1
            seconds = time.perf_counter() - begun
            self._metrics.requests.labels(route.name, told.status).inc()
            self._metrics.seconds.labels(route.name).observe(seconds)
            if self._settings.log_requests:
                line = {
                    "request_id": request_id,
                    "method": scope["method"] if scope["method"] in _METHODS else "other",
                    "route": route.name,
                    "status": told.status,
                    "ms": round(seconds * 1000, 2),
                    "key": key.key_id if key else None,
                }
                _log.info("request", extra={"fields": line})

    def _admit(self, headers: dict[bytes, bytes], scope: str) -> Key | None:
        if self.under_way > self._settings.max_under_way:
            raise Refused(429, f"More than {self._settings.max_under_way} requests are under way.", retry_after=1)
        key: Key | None = None
        if self._needs_key or self.keys.any:
            presented = _presented(headers)
            key = self.keys.find(presented) if presented else None
            if key is None:
                raise Refused(401, "Send a key that counts: Authorization: Bearer KEY.")
            if scope and scope not in key.scopes:
                raise Refused(403, f"This key is not for {scope}.")
        elif not names_an_address(headers.get(b"host", b"")):
            raise Refused(
                403, "Without keys this server answers at localhost alone: make one with `belfry keys create`."
            )
        elif is_another_site(headers.get(b"origin"), headers.get(b"host", b"")):
            raise Refused(403, "A page of another site may not ask this.")
        rate = (key.rate if key else None) or self._settings.rate
        if rate:
            self._spend(key.key_id if key else "", rate)
        return key

    def _spend(self, name: str, rate: float) -> None:
        """A token bucket of one second's requests."""
        now = time.monotonic()
        most = max(1.0, rate)
        tokens, since = self._buckets.get(name, (most, now))
        tokens = min(most, tokens + (now - since) * rate)
        if tokens < 1:
            self._buckets[name] = tokens, now
            raise Refused(429, f"This key may ask {rate:g} times a second.", retry_after=max(1, int(1 / rate)))
        self._buckets[name] = tokens - 1, now
        self._buckets.move_to_end(name)
        while len(self._buckets) > 10_000:
            self._buckets.popitem(last=False)


_READ = {b"authorization", b"host", b"origin", b"x-api-key", b"x-request-id", b"content-length", b"content-type"}
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}


def _presented(headers: dict[bytes, bytes]) -> str:
    bearer = headers.get(b"authorization", b"").decode("latin-1")
    scheme, _, key = bearer.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get(b"x-api-key", b"").decode("latin-1")


def _request_id(given: bytes | None) -> str:
    """The caller's, where it is a plain word; it is written to logs."""
    if given and len(given) <= 64 and given.replace(b"-", b"").replace(b"_", b"").isalnum():
        return given.decode("latin-1") if given.isascii() else uuid.uuid4().hex
    return uuid.uuid4().hex


class _Replay:
    """`receive`, for a body that was read."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Told:
    """`send`, which adds the request's id and remembers the status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id = send, request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self._request_id.encode())]
        await self._send(message)

    async def refuse(self, error: Refused) -> None:
        if self.status:
            return  # the answer has begun
        status, headers, body = refusal(error)
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def refusal(error: Refused) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an error."""
    body = orjson.dumps({"error": error.message})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.unread:
        headers.append((b"connection", b"close"))  # the rest of the body is not waited for
    return error.status, headers, body
