"""The bodies of requests, read whole and within bounds: each one, and all together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from serving.gateway.errors import Refused

_SECONDS = 30


class Gone(Exception):
    """The client went away before it had sent its request."""


class Bodies:
    """For one event loop.

    Args:
        together: Bytes of all bodies that are under way.
    """

    def __init__(self, together: int) -> None:
        self._together = together
        self.held = 0

    async def read(self, receive: Callable[[], Awaitable[Any]], most: int, length: bytes | None) -> bytes:
        """The whole body, since nothing can be done with a part; before the application, which would not tell why.

        It counts as under way until `release` is told its length.

        Raises:
            Refused: It is too large, too much is under way, or it does not come in time.
            Gone: The client went away.
        """
        if length is not None and length.isdigit() and int(length[:20]) > most:
            raise _too_large(most)
        body = bytearray()  # not a list: of a body in many small pieces that would be far larger
        try:
            async with asyncio.timeout(_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    piece = message.get("body", b"")
                    if len(body) + len(piece) > most:
                        raise _too_large(most)
                    if self.held + len(piece) > self._together:
                        raise Refused(429, "The bodies of other requests fill the memory.", retry_after=1, unread=True)
                    self.held += len(piece)
                    if not body and not message.get("more_body", False):
                        return bytes(piece)
                    body += piece
                    if not message.get("more_body", False):
                        return bytes(body)
        except BaseException as error:
            self.held -= len(body)
            if isinstance(error, TimeoutError):
                raise Refused(408, f"The body did not come within {_SECONDS} seconds.", unread=True) from None
            raise

    def release(self, size: int) -> None:
        """The request of a body of `size` bytes has ended."""
        self.held -= size


def _too_large(most: int) -> Refused:
    return Refused(413, f"The body is larger than {most} bytes.", unread=True)
