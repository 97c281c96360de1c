"""A body as the API's answers carry it."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


def json_answer(body: Any, status: int = 200) -> Response:
    """JSON, by the fast way: what is answered has been built here, and needs no check."""
    return Response(orjson.dumps(body), status, media_type="application/json")
