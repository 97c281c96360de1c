"""Calls to a model server in this process, past both of its ports."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from serving.client.calls import Answer, Prediction, SignatureSpec, Steps, Target, VersionState, read_signatures
from serving.client.errors import BadCall, Unavailable, error_of

if TYPE_CHECKING:
    from serving.model_server import ModelServer


class InProcess:
    """A started `ModelServer`. A call that takes longer than its time is given up, not interrupted.

    Args:
        threads: Calls at once from an event loop.
    """

    def __init__(self, server: ModelServer, threads: int = 4) -> None:
        self._server = server
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="model")

    def predict(self, call: Prediction) -> Steps[Answer]:
        return (yield partial(self._predict, call))

    def signatures(self, target: Target) -> Steps[dict[str, SignatureSpec]]:
        return (yield partial(self._signatures, target))

    def resolve(self, target: Target) -> Steps[int]:
        return (yield partial(self._resolve, target))

    def versions(self, target: Target) -> Steps[list[VersionState]]:
        return (yield partial(self._versions, target))

    def send(self, step: Any, timeout: float) -> Any:
        from serving.model_server.errors import ServingError

        try:
            return step()
        except ServingError as error:
            raise error_of(error.code.name, error.message) from None

    async def send_async(self, step: Any, timeout: float) -> Any:
        future = asyncio.get_running_loop().run_in_executor(self._threads, self.send, step, timeout)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise error_of("DEADLINE_EXCEEDED", "The model did not answer in time.") from None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def close_async(self) -> None:
        self.close()

    def _registry(self) -> Any:
        registry = self._server.registry
        if registry is None:
            raise Unavailable("UNAVAILABLE", "The model server is not running.")
        return registry

    def _predict(self, call: Prediction) -> Answer:
        target = call.target
        with self._registry().lease(target.model, target.version, target.label) as (version, model):
            signature = model.signature(call.signature)
            if signature is None:
                raise BadCall("FAILED_PRECONDITION", f"Serving signature key {call.signature!r} not found.")
            return Answer(model.run(signature, call.inputs, call.outputs), version)

    def _signatures(self, target: Target) -> dict[str, SignatureSpec]:
        with self._registry().lease(target.model, target.version, target.label) as (_, model):
            return read_signatures(model.describe())

    def _resolve(self, target: Target) -> int:
        with self._registry().lease(target.model, target.version, target.label) as (version, _):
            return int(version)

    def _versions(self, target: Target) -> list[VersionState]:
        found = self._registry().statuses(target.model, target.version, target.label)
        return [VersionState(each.version, each.state.name, each.message) for each in found]
