"""HTTP/1.1 on a socket, for an application that answers most requests at once: httptools on asyncio, nothing between.

uvicorn and ASGI cost more than a small model: see `python -m benchmarks model-server`. What a client may do here:
keep-alive, pipelining, bodies by length or in chunks, `Expect: 100-continue`, HEAD, closing its half of the connection.
It may not be slow without end, nor send heads or bodies without bound. There is no TLS, HTTP/2 or WebSocket; a
request to upgrade is answered as if it had not asked.
"""

from __future__ import annotations

import asyncio
import http
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

MAX_HEAD_BYTES = 1 << 16
MAX_PIPELINED = 16  # requests read ahead on one connection
MAX_CONNECTIONS = 4096
HEAD_SECONDS, BODY_SECONDS = 30.0, 300.0  # to send one
LINGER_SECONDS = 2.0
IDLE_SECONDS = 75.0  # longer than usual clients keep a connection, so that none is closed under a request

_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_OK = b"HTTP/1.1 200 OK\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_KEPT = (b"content-length", b"transfer-encoding", b"content-encoding")  # of a request that wishes to upgrade
# What an answer says about the connection.
_STAYS, _STAYS_OLD, _CLOSES = b"", b"connection: keep-alive\r\n", b"connection: close\r\n"


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


class Connection(asyncio.Protocol):
    """One client. Requests are answered in their order, one at a time."""

    def __init__(self, application: Application, connections: set[Connection], clock: Callable[[], float]) -> None:
        self._application = application
        self._connections = connections
        self._clock = clock
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request | Response, bytes]] = deque()  # with what is said about the connection
        self._task: asyncio.Task[None] | None = None
        self._writable = self._reading = True
        self._deaf = False  # what comes is not read: it follows what was no request, or the last one
        self._ended = False  # the client sends no more
        self._left = False  # the last answer is written
        self._draining = False
        self._head_bytes = 0
        self._plain_head = b""
        self._deadline = clock() + HEAD_SECONDS
        self._begin()

    def _begin(self) -> None:
        self._begun = False
        self._in_head = True
        self._url = self._encoding = self._kept = b""
        self._chunks: list[bytes] = []
        self._size = self._head_size = 0
        self._expects = False
        self._refused: Response | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is being sent or answered."""
        return self._owes or self._begun

    @property
    def _owes(self) -> bool:
        return self._task is not None or bool(self._waiting)

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._transport.abort()
            return
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        self._deaf = True
        del self._parser  # it knows this connection, which would be garbage for long

    def eof_received(self) -> bool:
        self._ended = True
        if not self._left:
            self._continue()
        return self._owes  # whoever has sent its last request may still read the answer

    def pause_writing(self) -> None:
        self._writable = False
        self._deadline = self._clock() + IDLE_SECONDS

    def resume_writing(self) -> None:
        self._writable = True
        self._continue()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._in_head:
            if self._head_bytes == 0 and not self._owes:
                self._deadline = self._clock() + HEAD_SECONDS
            self._head_bytes += len(data)
        while data and not self._deaf:
            try:
                self._parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                # The parser takes what follows for another protocol. Another one reads it as if nobody had asked.
                data = self._plain_head + data[upgrade.args[0] :]
                self._parser = httptools.HttpRequestParser(self)
            except httptools.HttpParserError as error:
                self._end(self._refused or self._application.refuse(400, f"This is not HTTP: {error}"))
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._end(self._head_too_large())
        self._continue()

    # The parser. An error raised here ends the parsing; `_refused` is then the answer.

    def on_message_begin(self) -> None:
        self._begin()
        self._begun = True

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(name, value)
        kind = name.lower()
        if kind == b"content-length":
            if value.isdigit() and int(value) > self._application.max_body_bytes:
                self._refused = self._body_too_large()
        elif kind == b"content-encoding":
            self._encoding = value.strip().lower()
        if kind in _KEPT:
            self._kept += b"%b: %b\r\n" % (name, value)
        elif kind == b"expect":
            self._expects = value.strip().lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        if self._refused is not None:
            raise ValueError  # its body is not waited for
        if not self._owes:
            self._deadline = self._clock() + BODY_SECONDS
            if self._expects and self._parser.get_http_version() == "1.1":
                self._transport.write(_CONTINUE)

    def on_body(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._application.max_body_bytes:
            self._refused = self._body_too_large()
            raise ValueError
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        method = self._parser.get_method()
        self._plain_head = b""
        if self._parser.should_upgrade() and method != b"CONNECT":
            self._plain_head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._url, self._kept)
            return
        path, _, _ = self._url.partition(b"?")
        if not path.startswith(b"/"):
            try:
                path = httptools.parse_url(self._url).path or b"/"
            except httptools.HttpParserInvalidURLError:
                path = b""
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        request = Request(method.decode("latin-1"), path.decode("latin-1"), body, self._encoding)
        if not self._parser.should_keep_alive():
            connection, self._deaf = _CLOSES, True
        else:
            connection = _STAYS if self._parser.get_http_version() == "1.1" else _STAYS_OLD
        self._waiting.append((request, connection))
        self._begin()

    def _count(self, *parts: bytes) -> None:
        self._head_size += sum(map(len, parts))
        if self._head_size > MAX_HEAD_BYTES:
            self._refused = self._head_too_large()
            raise ValueError

    def _head_too_large(self) -> Response:
        return self._application.refuse(431, f"The head of a request is larger than {MAX_HEAD_BYTES} bytes.")

    def _body_too_large(self) -> Response:
        return self._application.refuse(413, f"The body is larger than {self._application.max_body_bytes} bytes.")

    def _end(self, response: Response) -> None:
        """Answer what came before, then this, then close."""
        if not self._deaf:
            self._begin()
            self._waiting.append((response, _CLOSES))
            self._deaf = True

    # Answers

    def _continue(self) -> None:
        """Answer what waits, as far as that can be done at once."""
        while self._waiting and self._task is None and self._writable and not self._transport.is_closing():
            request, connection = self._waiting.popleft()
            if isinstance(request, Response):
                self._write(request, connection)
                continue
            response = self._application.now(request)
            if response is None:
                self._task = asyncio.get_running_loop().create_task(self._answer_later(request, connection))
                break
            self._write(response, connection, with_body=request.method != "HEAD")
        if self._transport.is_closing():
            return
        if not self._left and not self._owes and (self._ended or (self._draining and not self._begun)):
            self._transport.close()
            return
        reading = len(self._waiting) < MAX_PIPELINED
        if reading != self._reading:
            self._reading = reading
            (self._transport.resume_reading if reading else self._transport.pause_reading)()

    async def _answer_later(self, request: Request, connection: bytes) -> None:
        response = await self._application.later(request)
        self._task = None
        if not self._transport.is_closing():
            self._write(response, connection, with_body=request.method != "HEAD")
            self._continue()

    def _write(self, response: Response, connection: bytes, *, with_body: bool = True) -> None:
        status = response.status
        if self._draining:
            connection = _CLOSES
        self._transport.write(
            b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b"
            % (
                _OK if status == 200 else b"HTTP/1.1 %d %b\r\n" % (status, _REASONS[status]),
                response.content_type,
                len(response.body),
                response.headers,
                connection,
                response.body if with_body else b"",
            )
        )
        if connection is _CLOSES:
            self._leave()
        else:
            wait = IDLE_SECONDS if not self._begun else HEAD_SECONDS if self._in_head else BODY_SECONDS
            self._deadline = self._clock() + wait

    def _leave(self) -> None:
        """Close. What the client still sends is read for a while, or else it might not see its last answer."""
        self._waiting.clear()
        self._deaf = self._left = True
        self._begun = False
        if self._ended:
            self._transport.close()
        else:
            self._transport.write_eof()
            self._deadline = self._clock() + LINGER_SECONDS

    def sweep(self, now: float) -> None:
        """Close a connection whose client has been idle, or slow, for too long."""
        if now < self._deadline or (self._owes and self._writable):
            return
        if self._begun and not self._owes:
            self._end(self._application.refuse(408, "The request was not sent in time."))
            self._continue()
        else:
            self._transport.abort()  # nothing is owed, or it is not read

    def drain(self) -> None:
        """Finish what is under way, and close."""
        self._draining = True
        if not self.busy and not self._left:
            self._transport.close()

    def close(self) -> None:
        """Close as soon as what is written has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()
