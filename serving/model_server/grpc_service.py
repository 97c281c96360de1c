"""TensorFlow Serving's gRPC services: predictions, and the state and configuration of models."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
    status_pb2,
)

from serving.model_server.errors import Code, ServingError, invalid, unsupported
from serving.model_server.inference import answering, classify, multi_inference, one_model, predict, regress
from serving.model_server.model_config import model_configs
from serving.model_server.registry import Lease, Registry
from serving.model_server.request_log import Observer
from serving.model_server.served_models import ServedModels

_log = logging.getLogger(__name__)

_MESSAGE_LIMIT = 1024

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


@dataclass(frozen=True)
class Unreadable:
    """Bytes that are no message of the type asked for."""

    message_type: str


def _answering(
    method: Callable[[Any, RequestT, grpc.ServicerContext], ResponseT],
) -> Callable[[Any, RequestT, grpc.ServicerContext], ResponseT]:
    """Turn a ServingError into a gRPC status."""

    def answer(self: Any, request: RequestT, context: grpc.ServicerContext) -> ResponseT:
        try:
            if isinstance(request, Unreadable):
                raise invalid(f"The request is not a {request.message_type}.")
            return method(self, request, context)
        except ServingError as error:
            code, message = error.code, error.message
        except Exception:
            _log.exception("%s failed.", method.__name__)
            code, message = Code.INTERNAL, "The server failed; its log says why."
        if len(message) > _MESSAGE_LIMIT:
            message = message[:_MESSAGE_LIMIT] + "...TRUNCATED"
        context.abort(_STATUS_CODES[code], message)

    return answer


def _counted(
    method: Callable[[Any, RequestT, grpc.ServicerContext], ResponseT],
) -> Callable[[Any, RequestT, grpc.ServicerContext], ResponseT]:
    """Refuse a request that nobody waits for any more, and tell the observer, if there is one, how a request ended."""
    api = method.__name__

    def timely(self: PredictionService, request: RequestT, context: grpc.ServicerContext) -> ResponseT:
        if _deadline(context) <= time.monotonic():
            raise ServingError(Code.DEADLINE_EXCEEDED, "The request's deadline had passed before its turn came.")
        if not context.is_active():
            raise ServingError(Code.CANCELLED, "The client went away before its request's turn came.")
        return method(self, request, context)

    def count(self: PredictionService, request: RequestT, context: grpc.ServicerContext) -> ResponseT:
        if self.observer is None:
            return timely(self, request, context)
        started, code = time.perf_counter(), Code.INTERNAL
        try:
            response = timely(self, request, context)
            code = Code.OK
            return response
        except ServingError as error:
            code = error.code
            raise
        finally:
            self.observer(_model_name(request), api, "GRPC", code, time.perf_counter() - started)

    count.__name__ = api
    return count


def _deadline(context: grpc.ServicerContext) -> float:
    """When nobody waits any more, of `time.monotonic()`."""
    left = context.time_remaining()
    return float("inf") if left is None else time.monotonic() + left


def _model_name(request: Any) -> str:
    if isinstance(request, inference_pb2.MultiInferenceRequest):
        return request.tasks[0].model_spec.name if request.tasks else ""
    return str(request.model_spec.name)


def _lease(registry: Registry, request: Any) -> Lease:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return registry.lease(request.model_spec.name, *_choice(request.model_spec))


def _choice(spec: model_pb2.ModelSpec) -> tuple[int | None, str | None]:
    choice = spec.WhichOneof("version_choice")
    return (
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


class PredictionService:
    """Runs signatures and describes them."""

    NAME: ClassVar = "tensorflow.serving.PredictionService"
    METHODS: ClassVar[dict[str, tuple[Any, Any]]] = {
        "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
        "Classify": (classification_pb2.ClassificationRequest, classification_pb2.ClassificationResponse),
        "Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
        "MultiInference": (inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
        "GetModelMetadata": (
            get_model_metadata_pb2.GetModelMetadataRequest,
            get_model_metadata_pb2.GetModelMetadataResponse,
        ),
    }

    def __init__(
        self, registry: Registry, observer: Observer | None, *, check_methods: bool = False, as_content: bool = False
    ) -> None:
        self.registry = registry
        self.observer = observer
        self._check_methods = check_methods
        self._as_content = as_content

    def _how(self, context: grpc.ServicerContext) -> dict[str, Any]:
        return {"check_method": self._check_methods, "deadline": _deadline(context)}

    @_answering
    @_counted
    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        with _lease(self.registry, request) as (version, model):
            return predict(model, version, request, as_content=self._as_content, deadline=_deadline(context))

    @_answering
    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        with _lease(self.registry, request) as (version, model):
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = version
            response.metadata["signature_def"].Pack(model.describe())
        return response

    @_answering
    @_counted
    def Classify(
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        response = classification_pb2.ClassificationResponse()
        with _lease(self.registry, request) as (version, model):
            result = classify(model, request.model_spec, request.input, **self._how(context))
        response.result.CopyFrom(result)
        answering(response.model_spec, request.model_spec, version)
        return response

    @_answering
    @_counted
    def Regress(
        self, request: regression_pb2.RegressionRequest, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        response = regression_pb2.RegressionResponse()
        with _lease(self.registry, request) as (version, model):
            result = regress(model, request.model_spec, request.input, **self._how(context))
        response.result.CopyFrom(result)
        answering(response.model_spec, request.model_spec, version)
        return response

    @_answering
    @_counted
    def MultiInference(
        self, request: inference_pb2.MultiInferenceRequest, context: grpc.ServicerContext
    ) -> inference_pb2.MultiInferenceResponse:
        spec = one_model(request)
        with self.registry.lease(spec.name, *_choice(spec)) as (version, model):
            return multi_inference(model, version, request, **self._how(context))


class ModelService:
    """Tells the states of versions, and changes which models are served."""

    NAME: ClassVar = "tensorflow.serving.ModelService"
    METHODS: ClassVar[dict[str, tuple[Any, Any]]] = {
        "GetModelStatus": (
            get_model_status_pb2.GetModelStatusRequest,
            get_model_status_pb2.GetModelStatusResponse,
        ),
        "HandleReloadConfigRequest": (
            model_management_pb2.ReloadConfigRequest,
            model_management_pb2.ReloadConfigResponse,
        ),
    }

    def __init__(self, registry: Registry, served: ServedModels) -> None:
        self._registry = registry
        self._served = served
        self.stopping = False

    @_answering
    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        statuses = self._registry.statuses(request.model_spec.name, *_choice(request.model_spec))
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in statuses:
            entry = response.model_version_status.add(version=status.version, state=int(status.state))
            entry.status.error_code = int(status.code)
            entry.status.error_message = status.message
        return response

    @_answering
    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        if request.metric_names:
            raise unsupported("metric_names")
        self._served.apply(model_configs(request.config), lambda: self.stopping or not context.is_active())
        return model_management_pb2.ReloadConfigResponse(status=status_pb2.StatusProto())
