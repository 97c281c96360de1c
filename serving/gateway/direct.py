"""The two calls that most requests are, past FastAPI's own way from a body to a function.

FastAPI takes about as long for that as everything else that Python does for a recommendation. It still describes these
calls. The guard has refused bodies that are not declared as JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter
from starlette.responses import Response

from serving.gateway.failures import failure
from serving.gateway.guard import Receive, Scope, Send

Call = tuple[TypeAdapter[Any], Callable[[Any], Awaitable[Response]]]


class Direct:
    """An ASGI application before another.

    Args:
        calls: By path, what the body of a POST is, and what answers it.
    """

    def __init__(self, app: FastAPI, calls: Mapping[str, Call]) -> None:
        self._app, self._calls = app, calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = self._calls.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if call is None:
            await self._app(scope, receive, send)
            return
        body, function = call
        try:
            # The guard has read it whole.
            answer = await function(body.validate_json((await receive())["body"]))
        except Exception as error:
            told = failure(error)
            if told is None:
                raise
            answer = told
        await answer(scope, receive, send)
