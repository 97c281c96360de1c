"""Arrays to a predict answer in JSON: rows (`predictions`) or columns (`outputs`), as the request came.

Floats are written with the fewest digits that read back the same; `NaN`, `Infinity` and `-Infinity` are bare tokens.
A string output whose bytes are not UTF-8 shows U+FFFD in their place: name it `..._bytes` to get base64.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from serving.model_server.errors import Code, ServingError, invalid
from serving.model_server.json_requests import Form
from serving.model_server.tensors import Array


def write_outputs(outputs: Mapping[str, Array], form: Form) -> bytes:
    """The body of the answer. A single output comes bare, several come as objects.

    Raises:
        ServingError: INVALID_ARGUMENT, rows were asked for but an output has no batch dimension, or a dtype JSON
            cannot carry.
    """
    key, value = ("predictions", _rows(outputs)) if form is Form.ROWS else ("outputs", _columns(outputs))
    return orjson.dumps({key: value}, option=orjson.OPT_SERIALIZE_NUMPY)


def write_error(error: ServingError) -> bytes:
    """The body of an error."""
    return orjson.dumps({"error": error.message.encode("utf-8", "replace").decode("utf-8")})


def _columns(outputs: Mapping[str, Array]) -> Any:
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    columns = {alias: _value(_writable(array, alias)) for alias, array in outputs.items()}
    return columns if len(columns) > 1 else next(iter(columns.values()))


def _rows(outputs: Mapping[str, Array]) -> Any:
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    batch = 0
    for alias, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {alias} has no shape information ")
        if len(array) < 1:
            raise invalid(f"Tensor name: {alias} has invalid batch size: {len(array)}")
        if batch not in (0, len(array)):
            raise invalid(f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {batch}")
        batch = len(array)
    if len(outputs) == 1:
        return _columns(outputs)
    columns = {alias: _items(_writable(array, alias)) for alias, array in outputs.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _writable(array: Array, alias: str) -> Array | list[Any]:
    """The array if orjson writes it as it is, else nested lists."""
    if array.dtype == object:
        return _strings(array, alias)
    if array.dtype.kind in "biu":
        return array
    if array.dtype.kind == "c":
        raise ServingError(
            Code.INVALID_ARGUMENT, f"Failed to write JSON value for tensor type: {array.dtype} ({alias})"
        )
    if array.dtype.kind == "f":
        return array
    return array.astype(np.float32)  # bfloat16, which NumPy itself does not know


def _strings(array: Array, alias: str) -> list[Any]:
    flat = np.empty(array.size, dtype=object)
    if alias.endswith("_bytes"):
        flat[:] = [{"b64": base64.b64encode(value).decode("ascii")} for value in array.ravel()]
    else:
        flat[:] = [value.decode("utf-8", "replace") for value in array.ravel()]
    nested: list[Any] = flat.reshape(array.shape).tolist()
    return nested


def _items(values: Array | list[Any]) -> list[Any]:
    if isinstance(values, list):
        return values
    if values.ndim == 1 and values.dtype.kind in "biu":
        return list(values.tolist())
    return [_value(item) for item in values]


def _value(value: Any) -> Any:
    """What orjson can write: it has no NaN, no infinity and no arrays without dimensions."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.ndarray | np.floating) and value.dtype.kind == "f" and not np.isfinite(value).all():
        return orjson.Fragment(_with_bare_tokens(value))
    return value


def float_token(value: np.float32) -> Any:
    """What orjson writes for one float: a Fragment where JSON has no word for it."""
    return _value(value)


def _with_bare_tokens(value: Any) -> bytes:
    # orjson writes null for each of them, in order; there is no other null among floats.
    pieces = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).split(b"null")
    flat = np.ravel(value)
    odd = flat[~np.isfinite(flat)]
    tokens = [b"NaN" if np.isnan(one) else b"Infinity" if one > 0 else b"-Infinity" for one in odd]
    return b"".join(chunk for pair in zip(pieces, [*tokens, b""], strict=True) for chunk in pair)
