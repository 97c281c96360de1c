"""A predict request in JSON to arrays: the row form (`instances`) and the column form (`inputs`)."""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from serving.model_server.errors import Code, ServingError, invalid
from serving.model_server.json_text import quote, type_name
from serving.model_server.tensors import MAX_RANK, Array, DType

Inputs = Mapping[str, DType | None]


class Form(enum.Enum):
    """How the request gave its values, which is how the answer gives its own."""

    ROWS = "instances"
    COLUMNS = "inputs"


def signature_name(request: Mapping[str, Any]) -> str:
    """The signature the request asks for; empty for the default."""
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {quote(name)} not formatted correctly. 'signature_name' key must be a string value."
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise invalid("'signature_name' holds bytes that are not UTF-8.") from None
    return name


def read_inputs(request: Mapping[str, Any], inputs: Inputs) -> tuple[Form, dict[str, Array]]:
    """Turn `instances` or `inputs` into one array per input of the signature.

    Raises:
        ServingError: INVALID_ARGUMENT, neither or both forms, wrong names, types, ranges or ragged lists.
    """
    if "instances" in request and "inputs" in request:
        raise invalid("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in request:
        rows = request["instances"]
        if not isinstance(rows, list):
            raise invalid(f"JSON Value: {quote(rows)} Expecting 'instances' to be an list/array")
        if not rows:
            raise invalid("No values in 'instances' array")
        return Form.ROWS, _from_rows(rows, inputs)
    if "inputs" in request:
        return Form.COLUMNS, _from_columns(request["inputs"], inputs)
    raise invalid("Missing 'inputs' or 'instances' key")


def _from_rows(rows: list[Any], inputs: Inputs) -> dict[str, Array]:
    named = _is_named(rows[0])
    if not named and len(inputs) != 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    for position, row in enumerate(rows):
        if _is_named(row) != named:
            got = "value/list but got object" if not named else "object but got list"
            raise invalid(f"Expecting {got} at item {position} of input list")
        if named and row.keys() != inputs.keys():
            raise invalid(
                f"Failed to process element: {position} of 'instances' list. JSON object: {quote(row)} "
                f"must only have keys: {','.join(sorted(inputs))}"
            )
    if named:
        return {alias: to_array([row[alias] for row in rows], dtype, alias) for alias, dtype in inputs.items()}
    alias, dtype = next(iter(inputs.items()))
    return {alias: to_array(rows, dtype, alias)}


def _from_columns(value: Any, inputs: Inputs) -> dict[str, Array]:
    if not _is_named(value):
        if len(inputs) != 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        alias, dtype = next(iter(inputs.items()))
        return {alias: to_array(value, dtype, alias)}
    for alias in inputs:
        if alias not in value:
            raise invalid(f"Missing named input: {alias} in 'inputs' object.")
    return {alias: to_array(value[alias], dtype, alias) for alias, dtype in inputs.items()}


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not is_b64(value)


def is_b64(value: Any) -> bool:
    """Whether the value is `{"b64": text}`, which stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def to_array(value: Any, dtype: DType | None, alias: str) -> Array:
    """An array of nested lists, or of one value.

    Integers need integer tokens in range, floats take any number, a bool is no number and null is nothing.

    Raises:
        ServingError: INVALID_ARGUMENT as above, or for ragged lists; UNIMPLEMENTED for a dtype JSON cannot carry.
    """
    if dtype is None or dtype.numpy.kind == "c":
        kind = "its type" if dtype is None else dtype.name
        raise ServingError(Code.UNIMPLEMENTED, f'Input "{alias}": conversion of JSON to {kind} is not supported.')
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    if len(shape) > MAX_RANK:
        raise invalid(f'Input "{alias}": lists are nested more than {MAX_RANK} deep.')
    leaves: list[Any] = [value]
    for depth, size in enumerate(shape):
        if set(map(type, leaves)) != {list} or set(map(len, leaves)) != {size}:
            raise invalid(f'Input "{alias}": lists at level {depth} are not all lists of {size} as the first one is.')
        leaves = list(chain.from_iterable(leaves))
    return _leaves_to_array(leaves, dtype, alias).reshape(shape)


def _leaves_to_array(leaves: list[Any], dtype: DType, alias: str) -> Array:
    types = set(map(type, leaves))
    if dtype.is_string:
        _require(types <= {str, dict}, leaves, (str, dict), dtype, alias)
        array = np.empty(len(leaves), dtype=object)
        array[:] = [to_bytes(leaf, alias) for leaf in leaves]
        return array
    if dtype.numpy.kind == "b":
        _require(types <= {bool}, leaves, (bool,), dtype, alias)
        return np.array(leaves, dtype=np.bool_)
    if dtype.numpy.kind in "iu":
        _require(types <= {int}, leaves, (int,), dtype, alias)
        try:
            return np.array(leaves, dtype=dtype.numpy)
        except OverflowError:
            limits = np.iinfo(dtype.numpy)
            wrong = next(leaf for leaf in leaves if not limits.min <= leaf <= limits.max)
            raise _type_error(wrong, dtype, alias) from None
    _require(types <= {int, float}, leaves, (int, float), dtype, alias)
    return _to_floats(leaves, dtype, alias)


def _to_floats(leaves: list[Any], dtype: DType, alias: str) -> Array:
    wide = np.array(leaves, dtype=np.float64)
    with np.errstate(over="ignore"):
        array = wide.astype(dtype.numpy)
    lost = ~np.isfinite(array) & np.isfinite(wide)
    if lost.any():
        wrong = leaves[int(lost.argmax())]
        raise invalid(
            f'Input "{alias}": Cannot convert JSON value: {quote(wrong)} to {dtype.name} without loss of precision.'
        )
    return array


def to_bytes(leaf: Any, alias: str) -> bytes:
    """The bytes of a string, or of `{"b64": text}`."""
    try:
        if isinstance(leaf, str):
            return leaf.encode("utf-8", "surrogateescape")
        if not is_b64(leaf):
            raise invalid(f'Input "{alias}": JSON Value: {quote(leaf)} not formatted correctly for base64 data')
        text = leaf["b64"].translate(_WHITESPACE).rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except UnicodeEncodeError:
        raise invalid(f'Input "{alias}": a string holds half of a surrogate pair.') from None
    except (binascii.Error, ValueError):
        raise invalid(f'Input "{alias}": Unable to base64 decode') from None


_WHITESPACE = dict.fromkeys(map(ord, " \t\r\n\v\f"))


def _require(holds: bool, leaves: list[Any], types: tuple[type, ...], dtype: DType, alias: str) -> None:
    if not holds:
        raise _type_error(next(leaf for leaf in leaves if type(leaf) not in types), dtype, alias)


def _type_error(value: Any, dtype: DType, alias: str) -> ServingError:
    return invalid(
        f'Input "{alias}": JSON Value: {quote(value)} Type: {type_name(value)} is not of expected type: {dtype.name}'
    )
