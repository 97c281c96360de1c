"""Experiments by the API: start one, let it grow, look, stop it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from serving.experiments.declaration import Experiment, Name
from serving.experiments.looking import Verdict, look
from serving.experiments.records import (
    Record,
    change_experiment,
    list_experiments,
    list_looks,
    read_experiment,
    start_experiment,
    stop_experiment,
)
from serving.gateway.answers import json_answer
from serving.gateway.gateway import Gateway
from serving.gateway.schemas import Word

ExperimentName = Annotated[Name, Path(description="The experiment's name.")]


class Stop(BaseModel):
    """Why an experiment ends."""

    model_config = ConfigDict(extra="forbid")

    why: Annotated[Word, Field(min_length=1)]


class Ramp(BaseModel):
    """The share of its range that an experiment takes; it only grows."""

    model_config = ConfigDict(extra="forbid")

    ramp: Annotated[float, Field(ge=0, le=1)]


class ExperimentState(BaseModel):
    """An experiment and what became of it. Times are microseconds since 1970."""

    experiment: Experiment
    state: Literal["running", "stopped"]
    started_at: int
    stopped_at: int | None
    verdict: str | None
    why: str | None


class Experiments(BaseModel):
    """All there ever were, the first to start first."""

    experiments: list[ExperimentState]


class Evidence(BaseModel):
    """What somebody saw at a look; see `serving.experiments.looking.Look`."""

    model_config = ConfigDict(extra="allow")

    at: int
    verdict: Verdict
    why: str
    users: dict[str, int]
    left_out: int
    value: dict[str, float]


class ExperimentLooks(ExperimentState):
    """An experiment with all looks at it, the earliest first."""

    looks: list[Evidence]


def add_experiment_routes(app: FastAPI, gateway: Gateway, errors: Any) -> None:
    """Add the paths below /v1/experiments.

    Args:
        errors: By statuses, what the document says of refusals.
    """
    read, write = errors(401, 403, 413, 415, 422, 429, 503), errors(401, 403, 404, 409, 413, 415, 422, 429, 503)
    tags: Any = ["experiments"]

    @app.get("/v1/experiments", response_model=Experiments, responses=read, tags=tags)
    async def show_all() -> Response:
        """All experiments and their state."""
        found = await gateway.in_thread(list_experiments, gateway.store)
        return json_answer({"experiments": [each.as_json() for each in found]})

    @app.post("/v1/experiments", status_code=201, response_model=ExperimentState, responses=write, tags=tags)
    async def declare(experiment: Experiment) -> Response:
        """Start an experiment. Every gateway takes it up within its `sync_seconds`."""
        await gateway.in_thread(start_experiment, gateway.store, experiment, gateway.now())
        await gateway.sync()
        return json_answer((await _record(gateway, experiment.name)).as_json(), 201)

    @app.get("/v1/experiments/{name}", response_model=ExperimentLooks, responses=write, tags=tags)
    async def show(name: ExperimentName) -> Response:
        """An experiment with every look at it."""
        found = await _record(gateway, name)
        seen = await gateway.in_thread(list_looks, gateway.store, name)
        return json_answer(found.as_json() | {"looks": [evidence for _, evidence in seen]})

    @app.post("/v1/experiments/{name}/look", response_model=Evidence, responses=write, tags=tags)
    async def look_at(name: ExperimentName) -> Response:
        """Look at the evidence so far, which changes nothing: look as often as you like."""
        found = await _record(gateway, name)
        return json_answer((await gateway.in_thread(look, gateway.store, found, gateway.now())).as_json())

    @app.post("/v1/experiments/{name}/ramp", response_model=ExperimentState, responses=write, tags=tags)
    async def grow(name: ExperimentName, body: Ramp) -> Response:
        """Let more users in."""
        await gateway.in_thread(change_experiment, gateway.store, name, ramp=body.ramp)
        await gateway.sync()
        return json_answer((await _record(gateway, name)).as_json())

    @app.post("/v1/experiments/{name}/stop", response_model=ExperimentState, responses=write, tags=tags)
    async def end(name: ExperimentName, body: Stop) -> Response:
        """End an experiment; once it is over, nothing changes any more."""
        await gateway.in_thread(stop_experiment, gateway.store, name, gateway.now(), body.why)
        await gateway.sync()
        return json_answer((await _record(gateway, name)).as_json())


async def _record(gateway: Gateway, name: str) -> Record:
    found: Record = await gateway.in_thread(read_experiment, gateway.store, name)
    return found
