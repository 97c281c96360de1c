"""Classify and regress requests in JSON to tf.Examples, and their results to JSON."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.model_server.errors import invalid
from serving.model_server.json_requests import is_b64, to_bytes
from serving.model_server.json_responses import float_token
from serving.model_server.json_text import quote, type_name


def read_input(request: Mapping[str, Any]) -> input_pb2.Input:
    """Turn `examples`, and `context` if it is there, into an Input.

    A feature is a value or a list of values of one kind: strings (or `{"b64": ...}`), whole numbers and truth
    values, or numbers with a fraction.

    Raises:
        ServingError: INVALID_ARGUMENT, no list of examples, or a value that no feature can hold.
    """
    given = input_pb2.Input()
    if "context" in request:
        _fill(given.example_list_with_context.context, request["context"])
        examples = given.example_list_with_context.examples
    else:
        examples = given.example_list.examples
    if "examples" not in request:
        raise invalid("When method is classify or regress, key 'examples' is expected and was not found")
    rows = request["examples"]
    if not isinstance(rows, list):
        raise invalid(f"JSON Value: {quote(rows)} Expecting 'examples' value to be an list/array")
    if not rows:
        raise invalid("'examples' value is an empty array")
    for row in rows:
        _fill(examples.add(), row)
    return given


def write_classified(result: classification_pb2.ClassificationResult) -> bytes:
    """`results`: for each example, its `[label, score]` pairs."""
    rows = [[[entry.label, _number(entry.score)] for entry in one.classes] for one in result.classifications]
    return orjson.dumps({"results": rows}, option=orjson.OPT_SERIALIZE_NUMPY)


def write_regressed(result: regression_pb2.RegressionResult) -> bytes:
    """`results`: for each example, its number."""
    numbers = [_number(one.value) for one in result.regressions]
    return orjson.dumps({"results": numbers}, option=orjson.OPT_SERIALIZE_NUMPY)


def _number(value: float) -> Any:
    # The message holds float32; its shortest digits are those of float32, not of the double that Python sees.
    return float_token(np.float32(value))


def _fill(example: example_pb2.Example, value: Any) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    for name, content in value.items():
        try:
            feature = example.features.feature[name]
        except (UnicodeEncodeError, ValueError):
            raise invalid(f"Feature: {quote(name)} has a name that is not UTF-8.") from None
        for item in content if isinstance(content, list) else [content]:
            _add(feature, name, item)


def _add(feature: feature_pb2.Feature, name: str, value: Any) -> None:
    held = feature.WhichOneof("kind")
    if isinstance(value, bool | int):
        kind = "int64_list"
    elif isinstance(value, float):
        kind = "float_list"
    elif isinstance(value, str) or is_b64(value):
        kind = "bytes_list"
    else:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")
    if held not in (None, kind):
        expected = str(held).removesuffix("_list")
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
    if kind == "bytes_list":
        feature.bytes_list.value.append(to_bytes(value, name))
    elif kind == "float_list":
        try:
            struct.pack("<f", value)
        except OverflowError:
            raise invalid(f"Cannot convert JSON value: {quote(value)} to float without loss of precision.") from None
        feature.float_list.value.append(value)
    elif -(2**63) <= value < 2**63:
        feature.int64_list.value.append(int(value))
    else:
        raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
