"""The REST API: paths, forms, error rows of the contract, and our own endpoints."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from serving.model_server import ModelServer, Options, rest

Serve = Callable[[str], Any]
ROWS = {"instances": [[1, 2, 3]]}
ANSWER = {"predictions": [[14.0]]}


@pytest.mark.parametrize("path", ["", "/versions/1", "/versions/0001"])
def test_predict_with_and_without_a_version(path: str, serve: Serve) -> None:
    answer = serve("numeric1").post(ROWS, path)
    assert (answer.status_code, answer.json()) == (200, ANSWER)
    assert answer.headers["content-type"] == "application/json"


def test_paths_ignore_case_queries_and_percent_signs(serve: Serve) -> None:
    http = serve("numeric1").http
    for path in ("/V1/Models/numeric1:PREDICT", "/v1/models/numeric%31:predict", "/v1/models/numeric1:predict?a=b"):
        assert http.post(path, json=ROWS).json() == ANSWER


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense"])
def test_the_content_type_is_ignored(content_type: str, serve: Serve) -> None:
    assert serve("numeric1").post(json.dumps(ROWS), **{"content-type": content_type}).json() == ANSWER


def test_gzip_bodies(serve: Serve) -> None:
    client = serve("numeric1")
    packed = gzip.compress(json.dumps(ROWS).encode())
    assert client.post(packed, **{"content-encoding": "gzip"}).json() == ANSWER
    for broken in (b"not gzip", packed[:-4]):
        assert client.post(broken, **{"content-encoding": "gzip"}).status_code == 400


def test_a_body_in_chunks(serve: Serve) -> None:
    text = json.dumps(ROWS).encode()
    answer = serve("numeric1").http.post("/v1/models/numeric1:predict", content=iter([text[:5], text[5:]]))
    assert answer.json() == ANSWER


@pytest.mark.parametrize("zipped", [False, True])
def test_a_body_beyond_the_bound_is_refused(zipped: bool, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MAX_BODY_BYTES", 1000)
    body = json.dumps(ROWS).encode() + b" " * 2000
    headers = {"content-encoding": "gzip"} if zipped else {}
    answer = serve("numeric1").post(gzip.compress(body) if zipped else body, **headers)
    assert answer.status_code == 413
    assert "1000 bytes" in answer.json()["error"]
    assert answer.headers.get("connection") == (None if zipped else "close")  # what is not read ends a connection


def test_trailing_text_unknown_keys_and_duplicates(serve: Serve) -> None:
    text = '{"instances": [[1, 2, 3]], "unknown": 1, "instances": "ignored"} trailing'
    assert serve("numeric1").post(text).json() == ANSWER


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/other:predict", 404, "Servable not found for request: Latest(other)"),
        ("/v1/models/numeric1/versions/9:predict", 404, "Servable not found for request: Specific(numeric1, 9)"),
        ("/v1/models/numeric1/labels/beta:predict", 400, "Unrecognized servable version label: beta"),
        (f"/v1/models/numeric1/versions/{2**63}:predict", 400, f"Failed to convert version: {2**63} to numeric."),
        ("/v1/models/numeric1:explain", 400, "Malformed request: POST /v1/models/numeric1:explain"),
        ("/v1/models/numeric1", 400, "Malformed request: POST /v1/models/numeric1"),
        ("/v1/anything", 400, "Malformed request: POST /v1/anything"),
        ("/elsewhere", 404, "There is nothing at /elsewhere."),
    ],
)
def test_errors_of_the_address(path: str, status: int, message: str, serve: Serve) -> None:
    answer = serve("numeric1").http.post(path, json=ROWS)
    assert (answer.status_code, answer.json()) == (status, {"error": message})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"signature_name": "s", **ROWS}, 'Serving signature name: "s" not found in signature def'),
        ({"signature_name": 1, **ROWS}, "'signature_name' key must be a string"),
        ({"instances": [{"wrong": [1, 2, 3]}]}, "must only have keys: x"),
        ({"instances": [["a", "b", "c"]]}, "is not of expected type: float"),
        ({"instances": [[1, 2, None]]}, "Type: Null is not of expected type: float"),
        ({"instances": [[1, 2, True]]}, "Type: True is not of expected type: float"),
        ({"instances": [[1, 2]]}, "Matrix size-incompatible"),
        ({"instances": [1, 2]}, "ndims must be >= 2"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": "text"}, "Expecting 'instances' to be an list/array"),
        ({"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}, "only one of"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ("[1, 2]", "Is not object"),
        ("", "The document is empty"),
        ("{not json", "JSON Parse error"),
    ],
)
def test_errors_of_the_body(body: Any, message: str, serve: Serve) -> None:
    answer = serve("numeric1").post(body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("depth", [65, 300, 990, 1010, 100_000])
@pytest.mark.parametrize("key", ["instances", "inputs", "signature_name", "unknown", None])
@pytest.mark.parametrize("verb", ["predict", "classify"])
def test_deep_nesting_is_the_clients_fault(verb: str, key: str | None, depth: int, serve: Serve) -> None:
    nested = "[" * depth + "1" + "]" * depth
    body = nested if key is None else f'{{"{key}": {nested}, "examples": {nested}}}'
    answer = serve("numeric1").http.post(f"/v1/models/numeric1:{verb}", content=body)
    assert answer.status_code == 400
    assert len(answer.text) < 1000


@pytest.mark.parametrize(("digits", "status"), [("9" * 5000, 400), ("0" * 5000 + "1", 200), ("0" * 5000, 404)])
def test_a_version_of_thousands_of_digits(digits: str, status: int, serve: Serve) -> None:
    assert serve("numeric1").post(ROWS, f"/versions/{digits}").status_code == status


def test_rows_need_a_batch_dimension_in_the_output(serve: Serve) -> None:
    answer = serve("several").post({"signature_name": "total", "instances": [1, 2]})
    assert answer.status_code == 400
    assert "Tensor name: sum has no shape information" in answer.json()["error"]
    columns = serve("several").columns([1, 2, 0], "total")
    assert columns["sum"] == 3
    assert columns["inverse"] == [1, 0.5, float("inf")]


def test_outputs_named_bytes_come_as_base64(serve: Serve) -> None:
    assert serve("shout").rows([{"b64": "/wA="}], "raw") == [{"b64": "/wA="}]


def test_status(serve: Serve) -> None:
    http = serve("numeric1").http
    expected = {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    assert http.get("/v1/models/numeric1").json() == expected
    assert http.get("/v1/models/numeric1/versions/1").json() == expected


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models", 400, "Malformed request: GET /v1/models"),
        ("/v1/models/other", 404, "Could not find any versions of model other"),
        ("/v1/models/numeric1/versions/9", 404, "Could not find version 9 of model numeric1"),
        ("/v1/models/numeric1/labels/beta", 400, "Unrecognized servable version label: beta"),
        ("/v1/models/other/metadata", 404, "Servable not found for request: Latest(other)"),
        ("/v1/models/numeric1/versions/9/metadata", 404, "Servable not found for request: Specific(numeric1, 9)"),
        ("/v1/models/numeric1:predict", 400, "Malformed request: GET /v1/models/numeric1:predict"),
        ("/", 404, "There is nothing at /."),
    ],
)
def test_errors_of_get(path: str, status: int, message: str, serve: Serve) -> None:
    answer = serve("numeric1").http.get(path)
    assert (answer.status_code, answer.json()) == (status, {"error": message})


def test_metadata(serve: Serve) -> None:
    answer = serve("several").http.get("/v1/models/several/metadata").json()
    assert answer["model_spec"] == {"name": "several", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "total"} <= signatures.keys()
    default = signatures["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict"
    assert default["inputs"]["pair"]["dtype"] == "DT_FLOAT"
    assert default["inputs"]["pair"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
        "unknown_rank": False,
    }


def test_our_own_endpoints(serve: Serve) -> None:
    http = serve("numeric1").http
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready"}
    assert http.head("/readyz").status_code == 200
    models = http.get("/models").json()["models"]
    assert [(one["name"], one["versions"][0]["state"]) for one in models] == [("numeric1", "AVAILABLE")]


def test_a_slow_model_gets_504_and_the_server_goes_on(
    tmp_path: Any, publish: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    publish(tmp_path, 1, "numeric1")
    options = Options(model_base_path=tmp_path, grpc_port=None, rest_timeout_ms=50)
    with ModelServer(options) as server, httpx.Client(base_url=server.rest_url or "") as http:
        slow = {"signature_name": "slow", "inputs": 2000}
        answer = http.post("/v1/models/default:predict", json=slow)
        assert (answer.status_code, answer.json()) == (504, {"error": "The model took longer than 50 ms."})
        eventually(lambda: http.post("/v1/models/default:predict", json=ROWS).json() == ANSWER)


@pytest.mark.parametrize("cors", [False, True])
def test_pages_from_elsewhere_may_ask_only_if_told(cors: bool, tmp_path: Any, publish: Callable[..., Any]) -> None:
    publish(tmp_path, 1, "numeric1")
    options = Options(model_base_path=tmp_path, grpc_port=None, rest_cors=cors, rest_threads=1)
    with ModelServer(options) as server, httpx.Client(base_url=server.rest_url or "") as http:
        answer = http.post("/v1/models/default:predict", json=ROWS)
        preflight = http.options("/v1/models/default:predict")
        assert answer.json() == ANSWER
        assert answer.headers.get("access-control-allow-origin") == ("*" if cors else None)
        assert preflight.status_code == (200 if cors else 400)
        assert preflight.headers.get("access-control-allow-methods") == ("GET, POST" if cors else None)
