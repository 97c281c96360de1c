"""What every request passes before it is answered: its body is read whole, within bounds of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

MAX_BODY_BYTES = 1 << 20
_SECONDS = 30

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Refused(Exception):
    """A request that is not answered, with the HTTP status and the sentence that the client is told.

    Args:
        unread: Whether a part of the body was not read, so that the connection cannot be used again.
    """

    def __init__(self, status: int, message: str, *, unread: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.unread = status, message, unread


class Gone(Exception):
    """The client went away before it had sent its request."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
    """The whole body.

    Raises:
        Refused: It is compressed, too large, or does not come in time.
        Gone: The client went away.
    """
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > MAX_BODY_BYTES:
        raise _too_large()
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise Refused(400, "The body must not be compressed.")
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise _too_large()
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Refused(408, f"The body did not come within {_SECONDS} seconds.", unread=True) from None


def _too_large() -> Refused:
    return Refused(413, f"The body is larger than {MAX_BODY_BYTES} bytes.", unread=True)
