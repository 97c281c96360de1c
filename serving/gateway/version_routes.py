"""Versions of the model by the API: what there is, promote, retire, roll back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field

from serving.gateway.answers import json_answer
from serving.gateway.errors import Refused
from serving.gateway.gateway import Gateway
from serving.gateway.schemas import NUMBER, Word
from serving.gateway.version_book import VersionBook

_BASE = ConfigDict(extra="forbid")
_Why = Annotated[Word, Field(min_length=1, description="kept in the history")]


class Promotion(BaseModel):
    """A version, and why."""

    model_config = _BASE

    version: Annotated[int, Field(ge=0, le=2**63 - 1), NUMBER]
    why: _Why


class Rollback(BaseModel):
    """Why the champion before is to answer again."""

    model_config = _BASE

    why: _Why


class VersionState(BaseModel):
    """A version of the model, with the labels under which it is loaded."""

    version: int
    state: str
    labels: list[str]


class StateChange(BaseModel):
    """A version's new state. `at` is microseconds since 1970."""

    version: int
    state: str
    at: int
    why: str


class ModelVersions(BaseModel):
    """The model's versions, the newest first, and how it came to that, the latest first.

    `asked` is the version that answers here at the moment: it follows the champion within seconds. `before` is where a
    rollback leads.
    """

    model: str
    asked: int | None
    before: int | None
    versions: list[VersionState]
    history: list[StateChange]


def add_version_routes(app: FastAPI, gateway: Gateway, errors: Any) -> None:
    """Add the paths below /v1/models.

    Args:
        errors: By statuses, what the document says of refusals.
    """
    read, write = errors(401, 403, 404, 413, 415, 422, 429), errors(401, 403, 404, 409, 413, 415, 422, 429)
    tags: Any = ["models"]

    @app.get("/v1/models", response_model=ModelVersions, responses=read, tags=tags)
    async def show() -> Response:
        """All versions and their state. 404 where the gateway was started without a registry."""
        return await _shown(gateway)

    @app.post("/v1/models/promote", response_model=ModelVersions, responses=write, tags=tags)
    async def promote(body: Promotion) -> Response:
        """Make a candidate or the canary the champion. The one before stays loaded."""
        await gateway.in_thread(_book(gateway).promote, body.version, body.why)
        return await _shown(gateway)

    @app.post("/v1/models/retire", response_model=ModelVersions, responses=write, tags=tags)
    async def retire(body: Promotion) -> Response:
        """Take out a candidate or the canary."""
        await gateway.in_thread(_book(gateway).retire, body.version, body.why)
        return await _shown(gateway)

    @app.post("/v1/models/rollback", response_model=ModelVersions, responses=write, tags=tags)
    async def roll_back(body: Rollback) -> Response:
        """Make the champion before the champion again."""
        await gateway.in_thread(_book(gateway).roll_back, body.why)
        return await _shown(gateway)


def _book(gateway: Gateway) -> VersionBook:
    if gateway.versions is None:
        raise Refused(404, "This gateway has no registry of versions: start it with --models, and a registry there.")
    return gateway.versions


async def _shown(gateway: Gateway) -> Response:
    found = await gateway.in_thread(_book(gateway).versions)
    version = gateway.models.default.version
    body = {
        "model": gateway.settings.model,
        "asked": version.number if version else None,
        "before": found.before,
        "versions": [
            {
                "version": number,
                "state": state,
                "labels": sorted(label for label, labelled in found.labels.items() if labelled == number),
            }
            for number, state in sorted(found.states.items(), reverse=True)
        ],
        "history": [change._asdict() for change in reversed(found.history)],
    }
    return json_answer(body)
