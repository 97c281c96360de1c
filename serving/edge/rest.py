"""The REST face of an edge server: recommendations, items, and bundles that change places."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

from serving.edge.errors import BadBundle, BadRequest, NotFound
from serving.edge.guard import Gone, Receive, Refused, check_site, read_body
from serving.edge.store import BundleStore

_log = logging.getLogger(__name__)

MAX_QUEUED = 64  # requests at once; more get 429

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer: TypeAlias = tuple[int, dict[str, Any]]

_ITEMS = "/v1/items/"
_EVENT = ("item_id", "age_seconds", "dwell_seconds", "scroll_depth")
_REQUEST = {"user_id", "history", "k", "language", "exclude", "context"}
_ARTICLE = {"title", "body", "language", "category", "tags", "published_at"}


class EdgeApi:
    """An ASGI application over a `BundleStore`.

    - `POST /v1/recommendations` {history: [{item_id, age_seconds, dwell_seconds, scroll_depth}], k, language, exclude,
      context: {device, time_seconds}} to {request_id, model, version, variant, items: [{item_id, score, position}]}.
      All is optional. The time is the server's where none is given. `user_id` is accepted and not used: the history
      comes with the request.
    - `PUT /v1/items/{id}` {title, body, language, category, tags, published_at} and `DELETE /v1/items/{id}`.
    - `POST /v1/reload` {bundle} and `POST /v1/rollback`.
    - `GET /healthz`, and `/readyz`, which names the bundle in service and those refused.

    A wrong request gets 4xx and {error: one sentence}; so does one that a page of another site may have sent.

    Args:
        any_host: Whether the server may be called by another name than localhost or an address.
    """

    def __init__(self, store: BundleStore, *, any_host: bool = False) -> None:
        self._store, self._any_host = store, any_host
        # Models take turns anyway; a change of bundles must not hold up recommendations.
        self._answering = ThreadPoolExecutor(2, thread_name_prefix="answers")
        self._changing = ThreadPoolExecutor(1, thread_name_prefix="changes")
        self._under_way = 0
        self.draining = False

    def close(self) -> None:
        """Let the threads go, once no request is under way."""
        for threads in (self._answering, self._changing):
            threads.shutdown(wait=True, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        method, path, close = scope["method"], scope["raw_path"].decode("latin-1"), False
        self._under_way += 1
        try:
            status, answer = await self._answer(method, path, dict(scope["headers"]), receive)
        except Gone:
            return
        except Refused as error:
            status, answer, close = error.status, _error(error.message), error.unread
        except BadRequest as error:
            status, answer = 400, _error(str(error))
        except NotFound as error:
            status, answer = 404, _error(str(error))
        except BadBundle as error:
            status, answer = 409, _error(str(error))
        except Exception:
            _log.exception("%s %s failed.", method, path)
            status, answer = 500, _error("The server failed; its log says why.")
        finally:
            self._under_way -= 1
        body = json.dumps(answer, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if close:
            headers.append((b"connection", b"close"))  # the rest of the body is not waited for
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, method: str, path: str, headers: Mapping[bytes, bytes], receive: Receive) -> Answer:
        # Before the limit: a server that is busy is not dead.
        if path in ("/healthz", "/readyz"):
            _allow(method, "GET", "HEAD")
            return (200, {"status": "ok"}) if path == "/healthz" else self._ready()
        if self._under_way > MAX_QUEUED:
            raise Refused(429, f"More than {MAX_QUEUED} requests are under way.")
        check_site(method, headers, any_host=self._any_host)
        if path == "/v1/recommendations":
            _allow(method, "POST")
            body = await read_body(receive, headers)
            return await self._in(self._answering, self._recommend, body)
        if path in ("/v1/reload", "/v1/rollback"):
            _allow(method, "POST")
            body = await read_body(receive, headers)
            return await self._in(self._changing, self._reload if path == "/v1/reload" else self._rollback, body)
        if path.startswith(_ITEMS) and len(path) > len(_ITEMS):
            _allow(method, "PUT", "DELETE")
            body = await read_body(receive, headers)
            return await self._in(self._changing, self._put if method == "PUT" else self._delete, path, body)
        raise NotFound(f"There is nothing at {path[:200]}.")

    async def _in(self, threads: ThreadPoolExecutor, function: Callable[..., Answer], *arguments: Any) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

    def _recommend(self, body: bytes) -> Answer:
        request = _members(_object(body), _REQUEST, "the request")
        context = _members(request.get("context", {}), {"device", "time_seconds"}, "`context`")
        recommender = self._store.recommender
        if not isinstance(request.get("user_id", ""), str):
            raise BadRequest("`user_id` must be a string.")
        found = recommender.recommend(
            [_event(event) for event in _list(request, "history")],
            language=request.get("language", ""),
            device=context.get("device", ""),
            time_seconds=context.get("time_seconds", int(time.time())),
            exclude=_list(request, "exclude"),
            k=request.get("k"),
        )
        manifest = recommender.bundle.manifest
        return 200, {
            "request_id": uuid.uuid4().hex,
            "model": manifest.model,
            "version": manifest.version,
            "variant": manifest.variant,
            "items": [
                {"item_id": item, "score": score, "position": position} for position, (item, score) in enumerate(found)
            ],
        }

    def _put(self, path: str, body: bytes) -> Answer:
        article = _members(_object(body), _ARTICLE, "the item")
        if "tags" in article:
            article["tags"] = _list(article, "tags")
        item = _item(path)
        self._store.add_item(item, **article)
        return 200, {"item_id": item, "on_offer": True}

    def _delete(self, path: str, body: bytes) -> Answer:
        item = _item(path)
        self._store.remove_item(item)
        return 200, {"item_id": item, "on_offer": False}

    def _reload(self, body: bytes) -> Answer:
        number = _members(_object(body), {"bundle"}, "the request").get("bundle")
        if number is not None and (type(number) is not int or number < 0):
            raise BadRequest("`bundle` must be the number of a bundle.")
        return 200, {"bundle": self._store.reload(number)}

    def _rollback(self, body: bytes) -> Answer:
        return 200, {"bundle": self._store.rollback()}

    def _ready(self) -> Answer:
        store = self._store
        manifest = store.recommender.bundle.manifest
        return (503 if self.draining else 200), {
            "status": "stopping" if self.draining else "ready",
            "bundle": store.number,
            "model": manifest.model,
            "version": manifest.version,
            "variant": manifest.variant,
            "items": len(store.recommender),
            "refused": dict(store.refused),
        }


def _allow(method: str, *methods: str) -> None:
    if method not in methods:
        raise BadRequest(f"{method[:20]} is not possible here, {' and '.join(methods)} are.")


def _object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None
    except ValueError as error:
        raise BadRequest(f"The body is not JSON: {str(error)[:200]}.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _members(value: Any, known: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"{what[:1].upper()}{what[1:]} must be an object.")
    unknown = sorted(set(value) - known)
    if unknown:
        raise BadRequest(f"{unknown[0][:100]!r} is not known in {what}: there are {', '.join(sorted(known))}.")
    # null is the same as left out.
    return {name: each for name, each in value.items() if each is not None}


def _list(value: dict[str, Any], name: str) -> list[Any]:
    found = value.get(name, [])
    if not isinstance(found, list):
        raise BadRequest(f"`{name}` must be a list.")
    return found


def _event(value: Any) -> tuple[Any, ...]:
    members = _members(value, set(_EVENT), "an event of `history`")
    return (members.get("item_id", ""), *(members.get(name, 0.0) for name in _EVENT[1:]))


def _item(path: str) -> str:
    try:
        return unquote_to_bytes(path.removeprefix(_ITEMS)).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest("The item's id is not UTF-8.") from None


def _error(sentence: str) -> dict[str, Any]:
    return {"error": sentence}
