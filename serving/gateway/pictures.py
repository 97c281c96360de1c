"""Items' pictures: JPEG or PNG, which are what a model's graph decodes."""

from __future__ import annotations

import base64
import binascii
from typing import Any

MOST_BYTES = 1 << 20
_FIRST_BYTES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


def picture_type(content: bytes) -> str | None:
    """The media type by a file's first bytes; None for what is neither."""
    return next((kind for first, kind in _FIRST_BYTES.items() if content.startswith(first)), None)


def picture(value: Any) -> bytes:
    """A picture from base64, as JSON carries it.

    Raises:
        ValueError: It is none, or is too large.
    """
    if not isinstance(value, str):
        raise ValueError("it must be base64")
    if len(value) > 4 * (MOST_BYTES // 3 + 1):
        raise ValueError(f"it must be at most {MOST_BYTES} bytes")
    try:
        content = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it must be base64") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"it must be at most {MOST_BYTES} bytes")
    if picture_type(content) is None:
        raise ValueError("it must be a JPEG or PNG file")
    return content
