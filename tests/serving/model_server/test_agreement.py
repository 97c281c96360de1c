"""REST, gRPC and `tf.saved_model.load` give the same answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

Serve = Callable[[str], Any]

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("numeric1", "serving_default", {"x": np.array([[1, 2, 3], [0.1, -4, 1e9]], np.float32)}),
    ("shout", "serving_default", {"text": np.array(["cat", "Käse", ""], object)}),
    (
        "several",
        "serving_default",
        {"count": np.array([2**62, -7, 0], np.int64), "pair": np.array([[1, 2], [3, 4], [5, 6]], np.float32)},
    ),
    ("tokens", "serving_default", {"text": np.array(["the cat sat", "dog", "sat sat the unknown word"], object)}),
]


def _listed(array: Any) -> Any:
    values = np.asarray(array)
    if values.dtype == object:
        return np.vectorize(lambda v: v.decode() if isinstance(v, bytes) else v, otypes=[object])(values).tolist()
    return values.tolist()


@pytest.mark.parametrize(("source", "signature", "inputs"), CASES, ids=[case[0] for case in CASES])
def test_every_way_to_ask_gives_the_same(
    source: str, signature: str, inputs: dict[str, Any], serve: Serve, direct: Callable[..., Any], same: Any
) -> None:
    client = serve(source)
    expected = direct(source, signature, **inputs)

    by_grpc = client.predict(inputs, signature)
    assert by_grpc.keys() == expected.keys()
    assert all(same(by_grpc[alias], expected[alias]) for alias in expected)

    as_json = {alias: _listed(array) for alias, array in inputs.items()}
    by_column = client.columns(as_json, signature)
    rows = [dict(zip(as_json, row, strict=True)) for row in zip(*as_json.values(), strict=True)]
    by_row = client.rows(rows, signature)
    for alias, array in expected.items():
        bare = len(expected) == 1
        column = by_column if bare else by_column[alias]
        again = by_row if bare else [row[alias] for row in by_row]
        if alias.endswith("_bytes"):
            assert column == again
            assert [one["b64"] for one in column] == [
                tf.io.encode_base64(value, pad=True).numpy().decode() for value in array
            ]
        else:
            assert same(column, _listed(array))
            assert same(again, _listed(array))


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16"])
def test_special_floats_pass_unchanged(name: str, serve: Serve) -> None:
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 0.5], np.float32).astype(tf.as_dtype(name).as_numpy_dtype)
    client = serve("echo")
    assert np.array_equal(client.predict({"x": values}, name)["y"].astype(np.float32), values.astype(np.float32), True)
    text = f'{{"signature_name": "{name}", "inputs": [NaN, Infinity, -Infinity, -0.0, 0.5]}}'
    assert client.post(text).text == '{"outputs":[NaN,Infinity,-Infinity,-0.0,0.5]}'


@pytest.mark.parametrize("name", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_integers_pass_up_to_their_limits(name: str, serve: Serve) -> None:
    limits = np.iinfo(name)
    values = [int(limits.min), 0, int(limits.max)]
    client = serve("echo")
    assert client.predict({"x": np.array(values, name)}, name)["y"].tolist() == values
    assert client.columns(values, name) == values
    assert client.rows(values, name) == values


@pytest.mark.parametrize("name", ["bool", "string", "complex64", "complex128"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_other_types_and_shapes_pass(name: str, shape: tuple[int, ...], serve: Serve) -> None:
    array = np.ones(shape, name) if name != "string" else np.full(shape, b"\xff\x00", object)
    answer = serve("echo").predict({"x": tf.make_tensor_proto(array, tf.as_dtype(name), shape)}, name)["y"]
    assert answer.shape == shape
    assert answer.tolist() == array.tolist()


def test_scalars_come_bare_in_columns(serve: Serve) -> None:
    assert serve("echo").columns(2.5, "float32") == 2.5
    assert serve("echo").columns("word", "string") == "word"
