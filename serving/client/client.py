"""One client for TensorFlow Serving and for `serving.model_server`, by REST, by gRPC or in process."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from serving.client.calls import Answer, Prediction, SignatureSpec, Steps, Target, Transport, VersionState
from serving.client.errors import DeadlineExceeded, Unavailable
from serving.client.tensors import as_inputs

if TYPE_CHECKING:
    from serving.model_server import ModelServer

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
ResultT = TypeVar("ResultT")


def _transport(server: str | ModelServer) -> Transport:
    if not isinstance(server, str):
        from serving.client.in_process import InProcess

        return InProcess(server)
    scheme, separator, address = server.partition("://")
    if separator and scheme == "grpc" and address:
        from serving.client.grpc_transport import GrpcTransport

        return GrpcTransport(address.rstrip("/"))
    if separator and scheme in ("http", "https") and address:
        from serving.client.rest_transport import RestTransport

        return RestTransport(server)
    raise ValueError(f"A model server is grpc://host:port or http://host:port, not {server!r}.")


class _Clock:
    """The time a call has, and the pauses between its tries: doubled each time, and any part of that (full jitter)."""

    def __init__(self, timeout: float, retry: bool) -> None:
        self._until = time.monotonic() + timeout
        self._retry = retry
        self._pause = _FIRST_PAUSE

    def left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("DEADLINE_EXCEEDED", "The call's time is over.")
        return left

    def pause(self, error: Unavailable) -> float:
        """Seconds until the next try.

        Raises:
            Unavailable: There is no time for one.
        """
        if not self._retry:
            raise error
        pause = random.uniform(0, self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        if time.monotonic() + pause >= self._until:
            raise error
        return pause


class _Calls:
    """What can be asked, as steps."""

    def __init__(self, server: str | ModelServer, *, timeout: float = 10.0, retry: bool = True) -> None:
        self._transport = _transport(server)
        self._timeout = timeout
        self._retry = retry

    def _clock(self, timeout: float | None) -> _Clock:
        return _Clock(self._timeout if timeout is None else timeout, self._retry)

    def _predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        signature: str,
        version: int | None,
        label: str | None,
        outputs: Sequence[str],
    ) -> Steps[Answer]:
        call = Prediction(Target(model, version, label), as_inputs(inputs), signature, tuple(outputs))
        return self._transport.predict(call)


class Client(_Calls):
    """Asks a model server; may be used from several threads.

    Every call only reads, so that it is repeated while the server is not available and the call has time.

    Args:
        server: `grpc://host:port`, `http://host:port`, or a started `ModelServer`. By gRPC, calls are spread over all
            addresses of a host.
        timeout: Seconds a call has where it names none.
        retry: Whether to repeat calls.

    Example:
        >>> from pipelines import Dataset, Run, model_inputs
        >>> from serving import Client, ModelServer, Options
        >>> inputs = model_inputs(Run.open("run"), Dataset.open("data"), ["u000019", "nobody"])
        >>> with ModelServer(Options(model_name="news", model_base_path="models/news")) as server:
        ...     for address in (f"grpc://{server.grpc_target}", server.rest_url, server):
        ...         with Client(address) as client:
        ...             answer = client.predict("news", inputs, signature="recommend")
        ...             print(answer.outputs["ids"].shape, answer.version)
        (2, 10) 1
        (2, 10) 1
        (2, 10) 1
    """

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Answer:
        """Run a signature on arrays; text may be str or bytes, and comes back as bytes.

        Args:
            outputs: Their names; all by default.

        Raises:
            ClientError: See its subclasses.
        """
        return self._run(self._predict(model, inputs, signature, version, label, outputs), timeout)

    def signatures(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> dict[str, SignatureSpec]:
        """The signatures of a version, by name."""
        return self._run(self._transport.signatures(Target(model, version, label)), timeout)

    def versions(self, model: str, *, timeout: float | None = None) -> list[VersionState]:
        """The states of a model's versions."""
        return self._run(self._transport.versions(Target(model)), timeout)

    def resolve(self, model: str, *, label: str, timeout: float | None = None) -> int:
        """The version that a label stands for."""
        return self._run(self._transport.resolve(Target(model, label=label)), timeout)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, steps: Steps[ResultT], timeout: float | None) -> ResultT:
        clock = self._clock(timeout)
        with _Course(steps) as course:
            for step in course:
                try:
                    course.reply(self._transport.send(step, clock.left()))
                except Unavailable as error:
                    time.sleep(clock.pause(error))
                except Exception as error:
                    course.fail(error)
            return course.result()


class AsyncClient(_Calls):
    """The same for one event loop. A call that is cancelled is given up.

    Args:
        server, timeout, retry: As for `Client`.

    Example:
        >>> import asyncio
        >>> from serving import AsyncClient, ModelServer, Options
        >>> async def versions(server):
        ...     async with AsyncClient(server) as client:
        ...         return await client.versions("news")
        >>> with ModelServer(Options(model_name="news", model_base_path="models/news")) as server:
        ...     asyncio.run(versions(server))
        [VersionState(version=1, state='AVAILABLE', error='')]
    """

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Answer:
        """See `Client.predict`."""
        return await self._run(self._predict(model, inputs, signature, version, label, outputs), timeout)

    async def signatures(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> dict[str, SignatureSpec]:
        """The signatures of a version, by name."""
        return await self._run(self._transport.signatures(Target(model, version, label)), timeout)

    async def versions(self, model: str, *, timeout: float | None = None) -> list[VersionState]:
        """The states of a model's versions."""
        return await self._run(self._transport.versions(Target(model)), timeout)

    async def resolve(self, model: str, *, label: str, timeout: float | None = None) -> int:
        """The version that a label stands for."""
        return await self._run(self._transport.resolve(Target(model, label=label)), timeout)

    async def close(self) -> None:
        await self._transport.close_async()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, steps: Steps[ResultT], timeout: float | None) -> ResultT:
        clock = self._clock(timeout)
        with _Course(steps) as course:
            for step in course:
                try:
                    course.reply(await self._transport.send_async(step, clock.left()))
                except Unavailable as error:
                    await asyncio.sleep(clock.pause(error))
                except Exception as error:
                    course.fail(error)
            return course.result()


class _Course:
    """Steps on their way: the same one is yielded again until it has a reply."""

    def __init__(self, steps: Steps[Any]) -> None:
        self._steps = steps
        self._step: Any = None
        self._result: Any = None
        self._done = False

    def __enter__(self) -> Self:
        self._advance(None)
        return self

    def __exit__(self, *_: object) -> None:
        self._steps.close()

    def __iter__(self) -> Iterator[Any]:
        while not self._done:
            yield self._step

    def reply(self, value: Any) -> None:
        self._advance(value)

    def fail(self, error: Exception) -> None:
        """Let the steps go on without a reply, or raise."""
        try:
            self._step = self._steps.throw(error)
        except StopIteration as stop:
            self._result, self._done = stop.value, True

    def result(self) -> Any:
        return self._result

    def _advance(self, value: Any) -> None:
        try:
            self._step = self._steps.send(value)
        except StopIteration as stop:
            self._result, self._done = stop.value, True
