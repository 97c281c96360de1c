"""What an HTTP connection and an application say to each other: requests, and the answers to them."""

from __future__ import annotations

import http
from dataclasses import dataclass
from typing import Protocol

# What an answer says about the connection.
STAYS, STAYS_OLD, CLOSES = b"", b"connection: keep-alive\r\n", b"connection: close\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_OK = b"HTTP/1.1 200 OK\r\n"


@dataclass(slots=True)
class Request:
    """One request, whole."""

    method: str
    path: str  # as it was sent, without the query
    body: bytes
    encoding: bytes  # of the body, in lower case


@dataclass(slots=True)
class Response:
    """One answer. `headers` are whole lines, each with its line end."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: bytes = b""

    def text(self, connection: bytes, *, with_body: bool) -> bytes:
        """The answer as it is sent. Without its body it still has the body's length: the answer to HEAD."""
        return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
            _OK if self.status == 200 else b"HTTP/1.1 %d %b\r\n" % (self.status, _REASONS[self.status]),
            self.content_type,
            len(self.body),
            self.headers,
            connection,
            self.body if with_body else b"",
        )


class Application(Protocol):
    """What answers requests. No method raises."""

    @property
    def max_body_bytes(self) -> int: ...

    def now(self, request: Request) -> Response | None:
        """The answer, or None if it takes so long that others should not wait for it."""

    async def later(self, request: Request) -> Response:
        """The answer, if `now` had none."""

    def refuse(self, status: int, message: str) -> Response:
        """The answer to what is no request."""
