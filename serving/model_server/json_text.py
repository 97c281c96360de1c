"""JSON text to Python values, by TensorFlow Serving's rules rather than the standard's.

`NaN`, `Infinity` and `-Infinity` are numbers, the first of duplicate keys counts, text after the value is ignored and
strings may hold bytes that are not UTF-8 (they become surrogate escapes).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson

from serving.model_server.errors import ServingError, abridge, invalid

_KEY = re.compile(rb'"\s*:')


def parse_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ServingError: INVALID_ARGUMENT, the text is not JSON or not an object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        value = orjson.loads(body)
        # orjson keeps the last of duplicate keys. Fewer keys than the text has means there may be some.
        plain = len(_KEY.findall(body)) == _count_keys(value)
    except RecursionError:
        raise _too_deep() from None
    except orjson.JSONDecodeError:
        plain = False
    if not plain:
        value = _parse_slowly(body)
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {quote(value)} Is not object")
    return value


def _count_keys(value: Any) -> int:
    # Lists are looked into only when they start with a container, so that numbers cost nothing. Keys missed that way
    # lead to the slow parser, never to a wrong answer.
    if isinstance(value, dict):
        return len(value) + sum(map(_count_keys, value.values()))
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return sum(map(_count_keys, value))
    return 0


def _parse_slowly(body: bytes) -> Any:
    text = body.decode("utf-8", "surrogateescape").lstrip(" \t\n\r")
    try:
        return _DECODER.raw_decode(text)[0]
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise invalid(f"JSON Parse error: {error}") from None


def _too_deep() -> ServingError:
    return invalid("JSON Parse error: The document is nested too deeply")


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        members.setdefault(key, value)
    return members


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"Number too big to be stored in double: {abridge(text)}")
    return number


def _integer(text: str) -> int | float:
    # Like orjson and RapidJSON: what 64 bits cannot hold is a double.
    if len(text) <= 20:
        number = int(text)
        if -(2**63) <= number < 2**64:
            return number
    return _finite(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_first_wins, parse_float=_finite, parse_int=_integer)


def quote(value: Any) -> str:
    """A parsed value as an error message shows it."""
    try:
        return abridge(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        raise _too_deep() from None


def type_name(value: Any) -> str:
    """What TensorFlow Serving calls the type of a JSON value."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return "String"
    if isinstance(value, dict):
        return "Object"
    return "Array" if isinstance(value, list) else "Number"
