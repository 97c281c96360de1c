"""Errors as answers: one sentence, and the status that says whose fault it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serving.events import StoreAway, StoreBusy
from serving.experiments.declaration import BadExperiment, NoExperiment
from serving.gateway.errors import Refused
from serving.gateway.guard import refusal
from serving.gateway.version_book import BadChange

ANSWERED: tuple[type[Exception], ...] = (
    Refused,
    BadExperiment,
    BadChange,
    StoreAway,
    StoreBusy,
    RequestValidationError,
    HTTPException,
)
_SENTENCES = {
    404: "There is nothing here.",
    405: "This method is not possible here.",
}


def failure(error: Exception) -> Response | None:
    """The answer to a request that ended in `error`; None for a fault of ours."""
    match error:
        case Refused():
            return answer(error)
        case BadExperiment():
            return answer(Refused(404 if isinstance(error, NoExperiment) else 409, str(error)))
        case BadChange():
            return answer(Refused(409, str(error)))
        case StoreAway():
            return answer(Refused(503, str(error), retry_after=2))
        case StoreBusy():
            return answer(Refused(503, str(error), retry_after=1))
        case RequestValidationError() | ValidationError():
            return answer(Refused(422, _sentence(error.errors())))
        case HTTPException(status_code=400):
            return answer(Refused(422, "The body cannot be read."))
        case HTTPException():
            found = answer(Refused(error.status_code, _SENTENCES.get(error.status_code, str(error.detail))))
            found.headers.update(error.headers or {})
            return found
    return None


def answer(error: Refused) -> Response:
    """A refusal as a response."""
    status, headers, body = refusal(error)
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})


def _sentence(errors: Sequence[Any]) -> str:
    """The first thing that is wrong, without the value: it may be somebody's."""
    # Of a union the errors of both sides are listed; those of the side that was meant lie deepest.
    first: Any = max(errors, key=lambda each: len(each["loc"]), default={"loc": (), "msg": "unreadable"})
    if first.get("type") == "json_invalid":
        return "The body is not JSON."
    names = [str(each)[:40] for each in first["loc"] if each not in ("body", "path", "query", "Event", "Events")]
    message, where = (each.encode("utf-8", "replace").decode() for each in (first["msg"][:200], ".".join(names)))
    return f"`{where}`: {message}." if where else f"The request is wrong: {message}."
