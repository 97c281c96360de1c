"""The JSON rules: text to values, values to arrays, arrays to text."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.model_server.errors import Code, ServingError
from serving.model_server.json_requests import Form, read_inputs, signature_name
from serving.model_server.json_responses import write_error, write_outputs
from serving.model_server.json_text import parse_object
from serving.model_server.tensors import DTYPES, DType


def kind(name: str) -> DType:
    return DTYPES[tf.as_dtype(name).as_datatype_enum]


def columns(value: Any, name: str) -> Any:
    return read_inputs({"inputs": value}, {"x": kind(name)})[1]["x"]


# Text to values


def _text(value: Any) -> str:
    """JSON text of a value in which objects are lists of pairs, so that keys may repeat."""
    if isinstance(value, tuple):
        return "{" + " , ".join(f"{json.dumps(key)} : {_text(item)}" for key, item in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value)


def _first_wins(value: Any) -> Any:
    if isinstance(value, tuple):
        first: dict[str, Any] = {}
        for key, item in value:
            first.setdefault(key, _first_wins(item))
        return first
    return [_first_wins(item) for item in value] if isinstance(value, list) else value


_KEYS = st.sampled_from(["a", "b", "instances", 'tricky": ', ""])
_LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(width=64) | st.text(max_size=4)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(_KEYS, inner), max_size=4).map(tuple),
    max_leaves=12,
)


@given(st.lists(st.tuples(_KEYS, _VALUES), max_size=4).map(tuple))
@settings(deadline=None, max_examples=300)
def test_the_first_of_duplicate_keys_wins_and_nan_is_a_number(pairs: Any) -> None:
    parsed = parse_object(_text(pairs).encode())
    assert json.dumps(parsed) == json.dumps(_first_wins(pairs))


def test_text_after_the_object_is_ignored() -> None:
    assert parse_object(b' {"a": 1} and so on') == {"a": 1}


def test_bytes_that_are_not_utf8_reach_the_model() -> None:
    parsed = parse_object(b'{"inputs": ["\xff\xfe"]}')
    assert columns(parsed["inputs"], "string").tolist() == [b"\xff\xfe"]


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"{", b"[1]", b"1", b'{"a": nan}', b'{"a": 1e999}', b'{"a": -1e999}', b'{"a":' + b"[" * 100_000],
)
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ServingError) as refusal:
        parse_object(body)
    assert refusal.value.code is Code.INVALID_ARGUMENT
    assert len(refusal.value.message) < 400


# Values to arrays

_JSON_DTYPES = ["float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool"]
_CASES = st.sampled_from(_JSON_DTYPES).flatmap(
    lambda name: st.tuples(
        st.just(name), hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0, max_dims=3, max_side=3))
    )
)


@given(_CASES)
@settings(deadline=None, max_examples=300)
def test_numbers_survive_the_round_trip(case: tuple[str, Any]) -> None:
    name, array = case
    body = write_outputs({"y": array}, Form.COLUMNS)
    again = columns(parse_object(body)["outputs"], name)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert np.array_equal(again, array, equal_nan=array.dtype.kind == "f")


@given(hnp.arrays(object, hnp.array_shapes(min_dims=0, max_dims=3, max_side=3), elements=st.binary(max_size=6)))
@settings(deadline=None)
def test_bytes_survive_the_round_trip(array: Any) -> None:
    again = columns(parse_object(write_outputs({"y_bytes": array}, Form.COLUMNS))["outputs"], "string")
    assert again.shape == array.shape
    assert again.tolist() == array.tolist()


@given(st.lists(st.text(max_size=5), min_size=1, max_size=5))
@settings(deadline=None)
def test_text_survives_the_round_trip(texts: list[str]) -> None:
    array = columns(texts, "string")
    assert parse_object(write_outputs({"y": array}, Form.ROWS)) == {"predictions": texts}


def test_base64_may_lack_padding_and_have_spaces() -> None:
    data = b"\x00\x01\x02\x03"
    padded = base64.b64encode(data).decode()
    for text in (padded, padded.rstrip("="), " \n".join(padded)):
        assert columns([{"b64": text}], "string").tolist() == [data]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1.0, "int32"),
        (2**31, "int32"),
        (-1, "uint8"),
        (256, "uint8"),
        (300, "int8"),
        (2**63, "int64"),
        (2.0**64, "uint64"),
        (True, "int32"),
        (True, "float32"),
        (1, "bool"),
        ("1", "float32"),
        (None, "float32"),
        (None, "string"),
        (1, "string"),
        (1e39, "float32"),
        (-1e39, "float32"),
        (70000.0, "float16"),
        ({"b64": "AAAA"}, "float32"),
        ({"b64": 1}, "string"),
        ({"b64": "AA", "more": 1}, "string"),
        ({"b64": "!"}, "string"),
        ("\ud800", "string"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(value: Any, name: str) -> None:
    for nested in ([value], [[value]]):
        with pytest.raises(ServingError) as refusal:
            columns(nested, name)
        assert refusal.value.code is Code.INVALID_ARGUMENT
        assert '"x"' in refusal.value.message


def test_floats_take_integer_tokens_and_every_special_value() -> None:
    array = columns([1, 2.5, math.inf, -math.inf, math.nan, 2**24 + 1, 2**63], "float32")
    assert np.array_equal(
        array, np.array([1, 2.5, math.inf, -math.inf, math.nan, 2**24, 2**63], np.float32), equal_nan=True
    )


@pytest.mark.parametrize("value", [[[1], [1, 2]], [[1], 1], [1, [1]], [[], [1]], [[1], []]])
def test_ragged_lists_are_refused(value: Any) -> None:
    with pytest.raises(ServingError, match=r"lists at level|is not of expected type"):
        columns(value, "int32")


def test_complex_numbers_have_no_json() -> None:
    with pytest.raises(ServingError) as refusal:
        columns([1], "complex64")
    assert refusal.value.code is Code.UNIMPLEMENTED
    with pytest.raises(ServingError):
        write_outputs({"y": np.ones(1, np.complex64)}, Form.ROWS)


_ONE = {"x": kind("float32")}
_TWO = {"x": kind("float32"), "n": kind("int64")}


def test_one_input_takes_bare_rows_or_objects() -> None:
    for rows in ([[1, 2], [3, 4]], [{"x": [1, 2]}, {"x": [3, 4]}]):
        form, arrays = read_inputs({"instances": rows}, _ONE)
        assert form is Form.ROWS
        assert arrays["x"].tolist() == [[1, 2], [3, 4]]


def test_several_inputs_take_objects_with_exactly_their_keys() -> None:
    _, arrays = read_inputs({"instances": [{"x": 1, "n": 2}, {"n": 4, "x": 3}]}, _TWO)
    assert (arrays["x"].tolist(), arrays["n"].tolist()) == ([1, 3], [2, 4])
    _, arrays = read_inputs({"inputs": {"x": [1], "n": [2], "unknown": "ignored"}}, _TWO)
    assert (arrays["x"].tolist(), arrays["n"].tolist()) == ([1], [2])


@pytest.mark.parametrize(
    ("request_body", "inputs"),
    [
        ({}, _ONE),
        ({"instances": [1], "inputs": [1]}, _ONE),
        ({"instances": []}, _ONE),
        ({"instances": {}}, _ONE),
        ({"instances": 1}, _ONE),
        ({"instances": [[1], {"x": [1]}]}, _ONE),
        ({"instances": [{"x": [1]}, [1]]}, _ONE),
        ({"instances": [{"y": 1}]}, _ONE),
        ({"instances": [1]}, _TWO),
        ({"instances": [{"x": 1}]}, _TWO),
        ({"instances": [{"x": 1, "n": 1, "more": 1}]}, _TWO),
        ({"inputs": [1]}, _TWO),
        ({"inputs": {"x": [1]}}, _TWO),
    ],
)
def test_requests_of_the_wrong_form_are_refused(request_body: Any, inputs: Any) -> None:
    with pytest.raises(ServingError) as refusal:
        read_inputs(request_body, inputs)
    assert refusal.value.code is Code.INVALID_ARGUMENT


def test_the_signature_name_is_a_string() -> None:
    assert signature_name({}) == ""
    with pytest.raises(ServingError, match="must be a string"):
        signature_name({"signature_name": 1})


# Arrays to text


def test_float32_is_written_with_its_own_digits() -> None:
    assert (
        write_outputs({"y": np.array([0.1, 9e6, 1], np.float32)}, Form.ROWS) == b'{"predictions":[0.1,9000000.0,1.0]}'
    )


def test_special_values_are_bare_tokens_in_rows_of_several_outputs() -> None:
    odd = np.array([[math.nan, 1.0], [math.inf, -math.inf]], np.float32)
    body = write_outputs({"a": odd, "null": np.array([b"null", b"n"], object)}, Form.ROWS)
    assert body == b'{"predictions":[{"a":[NaN,1.0],"null":"null"},{"a":[Infinity,-Infinity],"null":"n"}]}'
    assert write_outputs({"y": np.array(math.nan)}, Form.COLUMNS) == b'{"outputs":NaN}'


def test_rows_need_a_batch_dimension() -> None:
    for outputs in (
        {"y": np.float32(1)},
        {"y": np.ones(0)},
        {"y": np.ones(2), "z": np.ones(3)},
    ):
        with pytest.raises(ServingError) as refusal:
            write_outputs({key: np.asarray(value) for key, value in outputs.items()}, Form.ROWS)
        assert refusal.value.code is Code.INVALID_ARGUMENT


def test_strings_that_are_not_utf8_do_not_break_the_answer() -> None:
    body = write_outputs({"y": np.array([b"a\xff"], object)}, Form.ROWS)
    assert orjson.loads(body) == {"predictions": ["a\ufffd"]}
    assert orjson.loads(write_error(ServingError(Code.INTERNAL, "half \udcff"))) == {"error": "half ?"}
