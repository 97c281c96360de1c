"""What every request passes before it is answered: no page of another site sent it, and its body is read whole, within
bounds of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from serving.listening import is_another_site, names_an_address

MAX_BODY_BYTES = 1 << 20
_SECONDS = 30
_CHANGING = {"POST", "PUT", "DELETE"}

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


def check_site(method: str, headers: Mapping[bytes, bytes], *, any_host: bool) -> None:
    """See that a page of another site, open in a browser on this machine, neither reads nor changes anything: no keys
    are asked for.

    Args:
        any_host: Whether the server may be called by a name.

    Raises:
        Refused: It may be such a page.
    """
    host = headers.get(b"host", b"")
    if not any_host and not names_an_address(host):
        raise Refused(403, "Without --allow-public-bind this server answers at localhost alone.")
    if method in _CHANGING and is_another_site(headers.get(b"origin"), host):
        raise Refused(403, "A page of another site may not ask this.")


async def read_body(receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
    """The whole body.

    Raises:
        Refused: It is compressed, too large, not declared as JSON, or does not come in time.
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
                    break
    except TimeoutError:
        raise Refused(408, f"The body did not come within {_SECONDS} seconds.", unread=True) from None
    # Strictly: a page of another site may send any other type to this machine without asking.
    if body and not headers.get(b"content-type", b"").startswith(b"application/json"):
        raise Refused(415, "Send the body as JSON, with the header Content-Type: application/json.")
    return bytes(body)


def _too_large() -> Refused:
    return Refused(413, f"The body is larger than {MAX_BODY_BYTES} bytes.", unread=True)
