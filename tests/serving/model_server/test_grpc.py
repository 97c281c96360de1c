"""The gRPC services: answers, filters, metadata, status and the error rows of the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
)

Serve = Callable[[str], Any]
X = {"x": np.array([[1, 2, 3]], np.float32)}
PAIRS = {"count": np.array([1], np.int64), "pair": np.array([[1, 2]], np.float32)}


def test_the_answer_names_the_version_and_the_signature(serve: Serve) -> None:
    client = serve("numeric1")
    spec = client.prediction.Predict(client.request(X)).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("numeric1", 1, "serving_default")


def test_answers_carry_typed_values(serve: Serve) -> None:
    client = serve("numeric1")
    proto = client.prediction.Predict(client.request(X)).outputs["y"]
    assert list(proto.float_val) == [14.0]
    assert not proto.tensor_content


def test_the_last_value_repeats(serve: Serve) -> None:
    proto = tf.make_tensor_proto([1.0], tf.float32, shape=[1, 3])
    assert list(proto.float_val) == [1.0]
    assert serve("numeric1").predict({"x": proto})["y"].tolist() == [[6.0]]


@pytest.mark.parametrize("only", [("label",), ("swapped", "label"), ("label", "swapped")])
def test_an_output_filter_chooses(only: tuple[str, ...], serve: Serve) -> None:
    outputs = serve("several").predict(PAIRS, only=only)
    assert outputs.keys() == set(only)
    assert outputs["label"].tolist() == [b"1"]


def _refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    return refusal.value.code(), refusal.value.details() or ""


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"name": "other"}, "NOT_FOUND", "Servable not found for request: Latest(other)"),
        ({"name": ""}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        ({"version": 9}, "NOT_FOUND", "Servable not found for request: Specific(numeric1, 9)"),
        ({"label": "beta"}, "INVALID_ARGUMENT", "Unrecognized servable version label: beta"),
        ({"signature": "s"}, "FAILED_PRECONDITION", 'Serving signature key "s" not found.'),
        ({"inputs": {}}, "INVALID_ARGUMENT", "Missing but required: {x}"),
        ({"inputs": {"y": X["x"]}}, "INVALID_ARGUMENT", "Sent extra: {y}. Missing but required: {x}."),
        ({"inputs": {**X, "y": X["x"]}}, "INVALID_ARGUMENT", "Sent extra: {y}"),
        ({"inputs": {"x": X["x"].astype(np.float64)}}, "INVALID_ARGUMENT", '"x" must be float32 but is float64'),
        ({"inputs": {"x": np.array([["a", "b", "c"]])}}, "INVALID_ARGUMENT", '"x" must be float32 but is string'),
        ({"inputs": {"x": np.ones((1, 4), np.float32)}}, "INVALID_ARGUMENT", "Matrix size-incompatible"),
        ({"inputs": {"x": np.float32(1)}}, "INVALID_ARGUMENT", "ndims must be >= 2"),
        ({"only": ("z",)}, "INVALID_ARGUMENT", "output tensor alias not found in signature: z"),
        ({"only": ("y", "y")}, "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
    ],
)
def test_errors_of_predict(change: dict[str, Any], code: str, message: str, serve: Serve) -> None:
    client = serve("numeric1")
    request = client.request(
        change.get("inputs", X), change.get("signature", ""), change.get("version"), change.get("only", ())
    )
    if "name" in change:
        request.model_spec.name = change["name"]
    if "label" in change:
        request.model_spec.version_label = change["label"]
    status, details = _refused(lambda: client.prediction.Predict(request))
    assert status.name == code
    assert message in details


def test_a_broken_tensor_is_the_clients_fault(serve: Serve) -> None:
    client = serve("numeric1")
    request = client.request(X)
    request.inputs["x"].tensor_content = b"123"
    status, details = _refused(lambda: client.prediction.Predict(request))
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("tensor parsing error: x")


def test_long_messages_are_cut_at_1024_characters(serve: Serve) -> None:
    client = serve("numeric1")
    _, details = _refused(lambda: client.prediction.Predict(client.request(X, "s" * 5000)))
    assert len(details) == 1024 + len("...TRUNCATED")
    assert details.endswith("...TRUNCATED")


def test_a_request_without_a_model_spec(serve: Serve) -> None:
    client = serve("numeric1")
    for call in (
        lambda: client.prediction.Predict(type(client.request(X))()),
        lambda: client.prediction.GetModelMetadata(
            get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        ),
        lambda: client.models.GetModelStatus(get_model_status_pb2.GetModelStatusRequest()),
    ):
        assert _refused(call) == (grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")


def _metadata_request(name: str, *fields: str) -> Any:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    return request


def test_metadata(serve: Serve) -> None:
    client = serve("several")
    response = client.prediction.GetModelMetadata(_metadata_request("several", "signature_def"))
    assert (response.model_spec.name, response.model_spec.version.value) == ("several", 1)
    described = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(described)
    assert set(described.signature_def["serving_default"].inputs) == {"count", "pair"}


@pytest.mark.parametrize(
    ("name", "fields", "code"),
    [
        ("several", (), grpc.StatusCode.INVALID_ARGUMENT),
        ("several", ("other",), grpc.StatusCode.INVALID_ARGUMENT),
        ("other", ("signature_def",), grpc.StatusCode.NOT_FOUND),
    ],
)
def test_errors_of_metadata(name: str, fields: tuple[str, ...], code: grpc.StatusCode, serve: Serve) -> None:
    client = serve("several")
    assert _refused(lambda: client.prediction.GetModelMetadata(_metadata_request(name, *fields)))[0] is code


def test_status(serve: Serve) -> None:
    client = serve("numeric1")
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "numeric1"
    (status,) = client.models.GetModelStatus(request).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, status.AVAILABLE, 0)
    request.model_spec.version.value = 9
    expected = (grpc.StatusCode.NOT_FOUND, "Could not find version 9 of model numeric1")
    assert _refused(lambda: client.models.GetModelStatus(request)) == expected
    request.model_spec.name = "other"
    assert _refused(lambda: client.models.GetModelStatus(request))[0] is grpc.StatusCode.NOT_FOUND


def test_bytes_that_are_no_message(serve: Serve) -> None:
    """grpcio kept memory for each of them, and called it the server's fault."""
    client = serve("numeric1")
    with grpc.insecure_channel(client.server.grpc_target) as channel:
        for method in ("PredictionService/Predict", "ModelService/GetModelStatus"):
            call = channel.unary_unary(f"/tensorflow.serving.{method}")
            code, details = _refused(lambda call=call: call(b"\xff\xff", timeout=20))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert details.startswith("The request is not a tensorflow.serving.")
