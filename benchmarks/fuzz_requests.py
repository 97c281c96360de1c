"""Requests that a model server must read to the end: in the right form, with odd values or contradictions.

What is broken is refused early; most of these reach the tensors, the graph and the answer. Some name other signatures,
versions and labels, unknown fields or a wrong type, and some are compressed.
"""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

import numpy as np
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

_FLOATS = (0.0, -0.0, 1, 2.5, 1e-45, 5e-324, 1.17549435e-38, 3.4028234e38, -3.4028234e38, 16777217, 2**63, -1e-300)
_BEYOND = (float("nan"), float("inf"), float("-inf"), 1e39, -1e308, 2**64 - 1, 10**400)
_WRONG = (None, True, "1", "", {"b64": "AAAA"}, {}, [])


def odd_json(rng: random.Random, model: str) -> tuple[str, bytes, bool]:
    """A path, a body and whether it is compressed: mostly a request that the model answers."""
    verb = rng.choice(["predict"] * 4 + ["classify", "regress"])
    document: dict[str, Any] = {}
    if verb == "predict":
        key = rng.choice(["instances", "inputs"])
        rows: Any = _rows(rng)
        if rng.random() < 0.3:
            rows = {"x": rows} if key == "inputs" else [{"x": row} for row in rows]
        document[key] = rows
        if rng.random() < 0.2:
            document["signature_name"] = rng.choice(["serving_default", "classify", "slow", "none", ""])
    else:
        document["signature_name"] = rng.choice(["classify", "regress", "serving_default"])
        document["examples"] = [{"x": [_as_float(value) for value in row]} for row in _rows(rng)]
        if rng.random() < 0.3:
            document["context"] = {"x": _row(rng), "é": ["cat", {"b64": "/w=="}]}
    if rng.random() < 0.2:
        document[rng.choice(["unknown", "", "Instances"])] = rng.choice([None, [[]], {"instances": 1}, "\0"])
    chosen = rng.choice([*[""] * 6, "/versions/1", "/versions/0001", "/versions/2", "/labels/stable"])
    body = json.dumps(document, indent=rng.choice([None, None, 1])).encode() + rng.choice([b"", b"", b"\n", b" more"])
    zipped = rng.random() < 0.2
    return f"/v1/models/{model}{chosen}:{verb}", gzip.compress(body, 1) if zipped else body, zipped


def odd_protobuf(rng: random.Random, model: str) -> tuple[str, bytes]:
    """A method and its request: mostly one that the model answers."""
    method = rng.choice(["Predict"] * 4 + ["Classify", "Regress", "MultiInference"])
    if method == "Predict":
        request = PredictRequest(output_filter=rng.choice([[], [], [], ["y"], ["none"]]))
        _tensor(rng, request.inputs["x"])
        specs = [request.model_spec]
    elif method == "MultiInference":
        request = MultiInferenceRequest()
        for kind in rng.choice([["classify"], ["regress"], ["classify", "regress"]]):
            request.tasks.add(method_name=f"tensorflow/serving/{kind}").model_spec.signature_name = kind
        specs = [task.model_spec for task in request.tasks]
    else:
        request = ClassificationRequest() if method == "Classify" else RegressionRequest()
        request.model_spec.signature_name = method.lower()
        specs = [request.model_spec]
    if method != "Predict":
        for row in _rows(rng):
            values = [float(value) for value in row if type(value) in (int, float) and abs(value) < 1e38]
            request.input.example_list.examples.add().features.feature["x"].float_list.value.extend(values)
    for spec in specs:
        spec.name = model
        if rng.random() < 0.1:
            spec.version.value = rng.choice([1, 2, -1])
        elif rng.random() < 0.05:
            spec.version_label = "stable"
    return method, request.SerializeToString()


def contradicting(rng: random.Random, message: bytes) -> bytes:
    """A PredictRequest that can be read, with fields that contradict each other."""
    request = PredictRequest()
    if rng.random() < 0.9:
        request.ParseFromString(message)
    if rng.random() < 0.3:
        request.model_spec.signature_name = rng.choice(["classify", "", "s", "é"])
    if rng.random() < 0.2:
        request.model_spec.version.value = rng.choice([1, 0, -1, 2**63 - 1])
    elif rng.random() < 0.1:
        request.model_spec.version_label = rng.choice(["", "stable"])
    request.output_filter.extend(rng.choices(["y", "", "z"], k=rng.choice([0, 0, 1, 2])))
    tensor = request.inputs[rng.choice(["x", "x", "x", "inputs", ""])]
    for _ in range(rng.randrange(4)):
        change = rng.randrange(6)
        if change == 0:
            tensor.dtype = rng.randrange(130)
        elif change == 1:
            del tensor.tensor_shape.dim[rng.randrange(3) :]
            tensor.tensor_shape.dim.add().size = rng.choice([0, 1, 3, -1, 1 << 20, 1 << 40, 2**63 - 1])
        elif change == 2:
            tensor.tensor_content = rng.randbytes(rng.choice([0, 3, 12, 24]))
        elif change == 3:
            tensor.ClearField("tensor_content")
            tensor.float_val.extend(rng.choices([0.5, float("nan"), 3e38], k=rng.randrange(5)))
        elif change == 4:
            tensor.string_val.extend(rng.choices([b"", b"\xff", b"\n\0"], k=rng.randrange(3)))
        else:
            tensor.tensor_shape.unknown_rank = rng.random() < 0.5
    return request.SerializeToString()


def _rows(rng: random.Random) -> list[list[Any]]:
    rows = [_row(rng) for _ in range(rng.choice([1, 1, 2, 3, 50, 0]))]
    change = rng.random()
    if not rows or change > 0.3:
        return rows
    row = rng.choice(rows)
    if change < 0.1:
        del row[rng.randrange(3) :]  # ragged, or too narrow
    else:
        row[rng.randrange(3)] = rng.choice(_BEYOND if change < 0.25 else _WRONG)
    return rows


def _row(rng: random.Random) -> list[Any]:
    return rng.choices(_FLOATS, k=3)


def _as_float(value: Any) -> Any:
    # A feature holds numbers of one kind.
    return float(value) if type(value) is int and value < 1e300 else value


def _tensor(rng: random.Random, tensor: Any) -> None:
    rows = rng.choice([1, 1, 2, 50, 0])
    odd = [*(value for value in _FLOATS if abs(value) < 1e38), float("nan"), float("inf")]
    values = np.array(rng.choices(odd, k=rows * 3), "<f4")
    tensor.dtype = rng.choice([*[1] * 150, *range(1, 24)])  # mostly DT_FLOAT
    for size in rng.choice(
        [*[(rows, 3)] * 20, (3, rows), (rows * 3,), (1, rows, 3), (rows, 3, *[1] * rng.randrange(99))]
    ):
        tensor.tensor_shape.dim.add().size = size
    kind = rng.random()
    if kind < 0.5:
        tensor.tensor_content = values.tobytes()
    elif kind < 0.95:
        tensor.float_val.extend(values.tolist())
    else:
        for field, some in (("int_val", [2**31 - 1, -1]), ("half_val", [70_000]), ("string_val", [b"\xff"])):
            getattr(tensor, field).extend(some)
