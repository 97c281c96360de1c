"""What is asked of a model server and what it says, whatever carries it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy

from serving.client.tensors import Array, dtype_name

ResultT = TypeVar("ResultT")
# A call as steps: it yields what to send and is given what came back, so that one text serves threads and event loops.
Steps: TypeAlias = Generator[Any, Any, ResultT]


class Answer(NamedTuple):
    """Outputs by name, and the version of the model that computed them.

    Args:
        outputs: Arrays (B, ...); strings are bytes.
        version: Of the model.

    Example:
        >>> import numpy as np
        >>> from serving import Answer
        >>> answer = Answer({"scores": np.array([[0.7, 0.2]])}, version=3)
        >>> answer.version, answer.outputs["scores"].shape
        (3, (1, 2))
    """

    outputs: dict[str, numpy.ndarray]  # by its full name, which the API reference can look up
    version: int


class TensorSpec(NamedTuple):
    """Type and shape of an input or output; None for a length that is free, and for a shape that is not known."""

    dtype: str
    shape: tuple[int | None, ...] | None


class SignatureSpec(NamedTuple):
    """A signature's inputs and outputs by name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


class VersionState(NamedTuple):
    """A version and its state: START, LOADING, AVAILABLE, UNLOADING or END; `error` is "" where there is none."""

    version: int
    state: str
    error: str = ""


@dataclass(frozen=True)
class Target:
    """Which model: its newest version, or the one of a number or label."""

    model: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class Prediction:
    """A signature's run."""

    target: Target
    inputs: Mapping[str, Array]
    signature: str = "serving_default"
    outputs: tuple[str, ...] = field(default=())


class Transport(Protocol):
    """Carries calls to one server. `send` may be called from several threads, `send_async` from one event loop."""

    def predict(self, call: Prediction) -> Steps[Answer]: ...

    def signatures(self, target: Target) -> Steps[dict[str, SignatureSpec]]: ...

    def versions(self, target: Target) -> Steps[list[VersionState]]: ...

    def resolve(self, target: Target) -> Steps[int]: ...

    def send(self, step: Any, timeout: float) -> Any: ...

    async def send_async(self, step: Any, timeout: float) -> Any: ...

    def close(self) -> None: ...

    async def close_async(self) -> None: ...


STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}


# Listed among the signatures, but nothing that can be asked.
INITIALISER = "__saved_model_init_op"


def read_signatures(described: Any) -> dict[str, SignatureSpec]:
    """A SignatureDefMap message, the official one or ours."""
    return {
        name: SignatureSpec(_specs(definition.inputs), _specs(definition.outputs))
        for name, definition in described.signature_def.items()
        if name != INITIALISER
    }


def _specs(infos: Any) -> dict[str, TensorSpec]:
    found = {}
    for name, info in infos.items():
        sizes = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
        found[name] = TensorSpec(dtype_name(info.dtype), None if info.tensor_shape.unknown_rank else sizes)
    return found
