"""The console's pages, at the gateway's root. They hold nothing of a store, and no key is asked for them."""

from __future__ import annotations

from fastapi import FastAPI, Response

from serving.console import HEADERS, Content, contents


def add_console(app: FastAPI) -> None:
    """Add every page and file of the console; they are no part of the API's document."""
    for path, content in contents().items():
        _add(app, path, content)


def _add(app: FastAPI, path: str, content: Content) -> None:
    async def show() -> Response:
        return Response(content.body, media_type=content.media_type, headers=HEADERS)

    app.add_api_route(path, show, methods=["GET", "HEAD"], include_in_schema=False, response_model=None)
