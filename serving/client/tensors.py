"""NumPy arrays, and the tensors of TensorFlow Serving's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.client.errors import BadCall, ServerFailed
from serving.client.messages import Tensor

Array = npt.NDArray[Any]

# DataType by name: its number, and the field that holds its values.
_DTYPES: dict[str, tuple[int, str]] = {
    "float32": (1, "float_val"),
    "float64": (2, "double_val"),
    "int32": (3, "int_val"),
    "uint8": (4, "int_val"),
    "int16": (5, "int_val"),
    "int8": (6, "int_val"),
    "string": (7, "string_val"),
    "int64": (9, "int64_val"),
    "bool": (10, "bool_val"),
    "uint16": (17, "int_val"),
    "float16": (19, "half_val"),
    "uint32": (22, "uint32_val"),
    "uint64": (23, "uint64_val"),
}
_BY_NUMBER = {number: name for name, (number, _) in _DTYPES.items()}


def dtype_name(number: int) -> str:
    """The name of a DataType; `type 14` where the client cannot carry it."""
    return _BY_NUMBER.get(number, f"type {number}")


def as_inputs(inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays as the signatures take them: text as bytes, in arrays of objects.

    Raises:
        BadCall: A value cannot be a tensor.
    """
    return {name: _as_array(name, value) for name, value in inputs.items()}


def _as_array(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:
        raise BadCall("INVALID_ARGUMENT", f"{name} has rows of different lengths: pad them.") from None
    if array.dtype.kind in "USO":
        flat = np.empty(array.size, object)
        for place, each in enumerate(array.ravel().tolist()):
            if not isinstance(each, str | bytes):
                raise BadCall("INVALID_ARGUMENT", f"{name} holds {type(each).__name__}, which is no tensor's.")
            flat[place] = each.encode() if isinstance(each, str) else each
        return flat.reshape(array.shape)
    if array.dtype.name not in _DTYPES:
        raise BadCall("INVALID_ARGUMENT", f"{name} is of type {array.dtype}, which cannot be sent.")
    return array


def to_tensor(array: Array, tensor: Any) -> None:
    """Write an array of `as_inputs` into an empty message."""
    number, field = _DTYPES["string" if array.dtype.kind == "O" else array.dtype.name]
    tensor.dtype = number
    tensor.tensor_shape.SetInParent()
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if field == "string_val":
        tensor.string_val.extend(array.ravel().tolist())
    else:
        tensor.tensor_content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def from_tensor(tensor: Tensor) -> Array:
    """Read an output. Strings are bytes in an array of objects.

    Raises:
        ServerFailed: It is of a type that the client cannot carry.
    """
    name = dtype_name(tensor.dtype)
    if name not in _DTYPES:
        raise ServerFailed("UNIMPLEMENTED", f"An output is of {name}, which the client cannot read.")
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    values = getattr(tensor, _DTYPES[name][1])
    if name == "string":
        found = np.empty(len(values), object)
        found[:] = list(values)
    elif tensor.tensor_content:
        found = np.frombuffer(tensor.tensor_content, np.dtype(name).newbyteorder("<"))
    elif name == "float16":
        found = np.array(values, np.uint16).view(np.float16)
    else:
        found = np.array(values, np.dtype(name))
    size = int(np.prod(shape))
    if len(found) < size:  # the last value repeats
        last: Any = found[-1] if len(found) else (b"" if name == "string" else 0)
        rest = np.empty(size - len(found), found.dtype)
        rest.fill(last)
        found = np.concatenate([found, rest])
    return found.reshape(shape)
