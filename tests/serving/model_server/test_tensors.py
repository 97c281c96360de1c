from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.model_server.errors import Code, ServingError
from serving.model_server.tensors import DTYPES, DType, as_array, decode, encode

_NUMERIC = [dtype for dtype in DTYPES.values() if not dtype.is_string]
_SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def _arrays(dtype: DType) -> st.SearchStrategy[Any]:
    if dtype.is_string:
        return _SHAPES.flatmap(lambda shape: hnp.arrays(object, shape, elements=st.binary(max_size=5)))
    if dtype.name == "bfloat16":
        bits = _SHAPES.flatmap(lambda shape: hnp.arrays(np.uint16, shape))
        return bits.map(lambda array: array.view(dtype.numpy))
    return _SHAPES.flatmap(lambda shape: hnp.arrays(dtype.numpy, shape))


_ANY = st.sampled_from(list(DTYPES.values())).flatmap(lambda dtype: st.tuples(st.just(dtype), _arrays(dtype)))


def _bits(array: Any) -> Any:
    return array.tolist() if array.dtype == object else np.ascontiguousarray(array).tobytes()


def _same(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and bool(_bits(left) == _bits(right))


@given(_ANY)
@settings(deadline=None, max_examples=200)
def test_what_is_written_reads_back_bit_by_bit(case: tuple[DType, Any]) -> None:
    dtype, array = case
    proto = tensor_pb2.TensorProto()
    encode(array, proto)
    assert proto.dtype == dtype.enum
    assert not proto.tensor_content
    assert _same(decode(proto, "x"), array)


@given(_ANY)
@settings(deadline=None, max_examples=200)
def test_tensorflow_reads_what_is_written(case: tuple[DType, Any]) -> None:
    dtype, array = case
    proto = tensor_pb2.TensorProto()
    encode(array, proto)
    theirs = tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(dtype.enum)).numpy()
    assert _same(as_array(theirs), array)


@given(_ANY)
@settings(deadline=None, max_examples=200)
def test_what_tensorflow_writes_is_read(case: tuple[DType, Any]) -> None:
    dtype, array = case
    proto = tf.make_tensor_proto(array, dtype=tf.as_dtype(dtype.enum), shape=array.shape)
    assert _same(decode(proto, "x"), array)


@given(st.sampled_from(_NUMERIC), st.integers(0, 6), st.integers(0, 6))
@settings(deadline=None, max_examples=100)
def test_too_few_and_too_many_values_mean_what_they_mean_to_tensorflow(
    dtype: DType, given_values: int, size: int
) -> None:
    values = np.arange(1, given_values + 1).astype(dtype.numpy)
    proto = tensor_pb2.TensorProto()
    encode(values, proto)
    proto.tensor_shape.dim[0].size = size
    expected = tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(dtype.enum)).numpy()
    assert _same(decode(proto, "x"), expected)


@pytest.mark.parametrize("name", ["float32", "float64", "complex64", "complex128"])
def test_large_typed_values_take_the_same_numbers(name: str) -> None:
    array = np.random.default_rng(1).normal(size=(300, 7)).astype(name)
    proto = tensor_pb2.TensorProto()
    encode(array, proto)
    assert _same(decode(proto, "x"), array)


def test_strings_in_tensor_content() -> None:
    long = b"x" * 300
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_content=b"\x01\x00\xac\x02" + b"a" + long)
    proto.tensor_shape.dim.add().size = 3
    assert decode(proto, "x").tolist() == [b"a", b"", long]
    proto.tensor_content = proto.tensor_content[:-1]
    with pytest.raises(ServingError, match="do not fill its shape"):
        decode(proto, "x")
    proto.tensor_content = b"\xff"
    with pytest.raises(ServingError, match="cut short"):
        decode(proto, "x")


def _proto(dtype: int = types_pb2.DT_FLOAT, shape: tuple[int, ...] = (1,), **fields: Any) -> Any:
    proto = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        _proto(types_pb2.DT_INVALID),
        _proto(types_pb2.DT_RESOURCE),
        _proto(shape=(-1,)),
        _proto(shape=(1 << 40,), float_val=[1.0]),
        _proto(shape=(2,), tensor_content=b"1234"),
        _proto(shape=(1 << 40,), tensor_content=b"1234"),
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused(proto: Any) -> None:
    with pytest.raises(ServingError, match="tensor parsing error: x") as refusal:
        decode(proto, "x")
    assert refusal.value.code is Code.INVALID_ARGUMENT


@given(st.lists(st.sampled_from([0, 1, 2, 2**31, 2**62, 2**63 - 1]), max_size=80), st.booleans())
@settings(deadline=None)
def test_any_shape_is_read_or_refused(shape: list[int], typed: bool) -> None:
    values = {"float_val": [1.0]} if typed else {"tensor_content": bytes(4)}
    with contextlib.suppress(ServingError):
        assert decode(_proto(shape=tuple(shape), **values), "x").shape == tuple(shape)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("value", [70_000, -1, 2**31 - 1])
def test_halves_wrap_as_tensorflows_do(name: str, value: int) -> None:
    proto = _proto(tf.as_dtype(name).as_datatype_enum, half_val=[value])
    expected = tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(name)).numpy()
    assert _bits(decode(proto, "x")) == _bits(expected)


def test_scalars_of_a_session_keep_their_zero_bytes() -> None:
    assert as_array(b"a\x00")[()] == b"a\x00"
    assert as_array(np.float32(2)).dtype == np.float32


@pytest.mark.parametrize("dtype", [69, 12, 0])
def test_a_dtype_that_there_is_not_or_that_has_no_values(dtype: int) -> None:
    """A number that no dtype has was an error of the server."""
    with pytest.raises(ServingError, match="is not supported"):
        decode(tensor_pb2.TensorProto(dtype=dtype), "x")
