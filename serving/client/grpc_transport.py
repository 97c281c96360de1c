"""Calls by gRPC, with messages of our own: TensorFlow is not imported."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc

from serving.client import messages
from serving.client.calls import (
    STATES,
    Answer,
    Prediction,
    SignatureSpec,
    Steps,
    Target,
    VersionState,
    read_signatures,
)
from serving.client.errors import error_of
from serving.client.tensors import from_tensor, to_tensor

_PREDICTION = "/tensorflow.serving.PredictionService/"
_METHODS = {
    f"{_PREDICTION}Predict": messages.PredictResponse,
    f"{_PREDICTION}GetModelMetadata": messages.GetModelMetadataResponse,
    "/tensorflow.serving.ModelService/GetModelStatus": messages.GetModelStatusResponse,
}
_PREDICT, _METADATA, _STATUS = _METHODS
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that restarts is found again at once, not after gRPC's own pauses of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Calls take turns among the addresses of a name, as a headless service of Kubernetes gives them. gRPC's own way is
    # to send everything to the first that answers.
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    # A name is looked up again when a connection breaks; by default not more often than each 30 seconds.
    ("grpc.dns_min_time_between_resolutions_ms", 2000),
]


class _Step(NamedTuple):
    method: str
    request: Any


class GrpcTransport:
    """A channel to `host:port`, for threads or for one event loop; each is opened when it is first used.

    Where `host` has several addresses, each call goes to the next one that is connected. A server that is added to the
    name is found when a connection breaks; not before.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.Channel | None = None
        self._async_channel: Any = None
        self._stubs: dict[str, Any] = {}
        self._async_stubs: dict[str, Any] = {}

    def predict(self, call: Prediction) -> Steps[Answer]:
        request = messages.PredictRequest(output_filter=call.outputs)
        _specify(request.model_spec, call.target)
        request.model_spec.signature_name = call.signature
        for name, array in call.inputs.items():
            to_tensor(array, request.inputs[name])
        response = yield _Step(_PREDICT, request)
        outputs = {name: from_tensor(tensor) for name, tensor in response.outputs.items()}
        return Answer(outputs, response.model_spec.version.value)

    def signatures(self, target: Target) -> Steps[dict[str, SignatureSpec]]:
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        _specify(request.model_spec, target)
        response = yield _Step(_METADATA, request)
        return read_signatures(messages.SignatureDefMap.FromString(response.metadata["signature_def"].value))

    def resolve(self, target: Target) -> Steps[int]:
        # A status is of all versions, whatever label is asked for.
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        _specify(request.model_spec, target)
        response = yield _Step(_METADATA, request)
        return int(response.model_spec.version.value)

    def versions(self, target: Target) -> Steps[list[VersionState]]:
        request = messages.GetModelStatusRequest()
        _specify(request.model_spec, target)
        response = yield _Step(_STATUS, request)
        return [
            VersionState(each.version, STATES.get(each.state, "UNKNOWN"), each.status.error_message)
            for each in response.model_version_status
        ]

    def send(self, step: _Step, timeout: float) -> Any:
        if self._channel is None:
            self._channel = grpc.insecure_channel(self._address, _OPTIONS)
            self._stubs = _stubs(self._channel)
        try:
            return self._stubs[step.method](step.request, timeout=timeout)
        except grpc.RpcError as error:
            raise _error(error) from None

    async def send_async(self, step: _Step, timeout: float) -> Any:
        if self._async_channel is None:
            self._async_channel = grpc.aio.insecure_channel(self._address, _OPTIONS)
            self._async_stubs = _stubs(self._async_channel)
        try:
            return await self._async_stubs[step.method](step.request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise _error(error) from None

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def close_async(self) -> None:
        if self._async_channel is not None:
            await self._async_channel.close()
            self._async_channel = None


def _stubs(channel: Any) -> dict[str, Any]:
    return {
        method: channel.unary_unary(method, request_serializer=_serialize, response_deserializer=response.FromString)
        for method, response in _METHODS.items()
    }


def _serialize(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _specify(spec: Any, target: Target) -> None:
    spec.name = target.model
    if target.version is not None:
        spec.version.value = target.version
    elif target.label is not None:
        spec.version_label = target.label


def _error(error: Any) -> Exception:
    return error_of(error.code().name, error.details() or "The server gave no reason.")
