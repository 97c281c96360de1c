"""HTTP/1.1 on a socket, for an application that answers most requests at once: httptools on asyncio, nothing between.

uvicorn and ASGI cost more than a small model: see `python -m benchmarks model-server`. What a client may do here:
keep-alive, pipelining, bodies by length or in chunks, `Expect: 100-continue`, HEAD, closing its half of the connection.
It may not be slow without end, nor send heads or bodies without bound. There is no TLS, HTTP/2 or WebSocket; a
request to upgrade is answered as if it had not asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from serving.model_server.http_messages import CLOSES, CONTINUE, Application, Request, Response
from serving.model_server.http_reader import Part, Read, Reader

MAX_PIPELINED = 16  # requests read ahead on one connection, and answered before others have their turn
MAX_CONNECTIONS = 4096
HEAD_SECONDS, BODY_SECONDS = 30.0, 300.0  # to send one
LINGER_SECONDS = 2.0
IDLE_SECONDS = 75.0  # longer than usual clients keep a connection, so that none is closed under a request
MIN_TAKEN_BYTES = 1 << 16  # of a large answer, in IDLE_SECONDS


class Connection(asyncio.Protocol):
    """One client. Requests are answered in their order, one at a time."""

    def __init__(self, application: Application, connections: set[Connection], clock: Callable[[], float]) -> None:
        self._application = application
        self._connections = connections
        self._clock = clock
        self._reader = Reader(application)
        self._waiting: deque[Read] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = self._reading = True
        self._unsent = 0  # bytes, when the client was last seen to take some
        self._ended = False  # the client sends no more
        self._left = False  # the last answer is written
        self._draining = False
        self._sending = (0, Part.NOTHING)  # which request the client is sending, and what of it
        self._deadline = clock() + HEAD_SECONDS

    @property
    def busy(self) -> bool:
        """Whether a request is being sent or answered."""
        return self._owes or self._reader.part is not Part.NOTHING

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
        self._reader.close()

    def eof_received(self) -> bool:
        self._ended = True
        if not self._left:
            self._continue()
        return self._owes  # whoever has sent its last request may still read the answer

    def pause_writing(self) -> None:
        self._writable = False
        self._unsent = self._transport.get_write_buffer_size()
        self._deadline = self._clock() + IDLE_SECONDS

    def resume_writing(self) -> None:
        self._writable = True
        if self._left:
            self._deadline = self._clock() + LINGER_SECONDS
        else:
            self._continue()

    def data_received(self, data: bytes) -> None:
        if self._reader.done:
            return
        self._waiting.extend(self._reader.feed(data))
        sending = (self._reader.count, self._reader.part)
        if sending != self._sending and self._writable:
            self._wait_for_more()
        self._sending = sending
        self._continue()

    # Answers

    def _continue(self) -> None:
        """Answer what waits, as far as that can be done at once."""
        answered = 0
        while self._waiting and self._task is None and self._writable and not self._transport.is_closing():
            if answered == MAX_PIPELINED:
                asyncio.get_running_loop().call_soon(self._continue)  # others have waited for this client
                break
            answered += 1
            request, connection = self._waiting.popleft()
            if isinstance(request, Response):
                self._write(request, connection)
                continue
            response = self._application.now(request)
            if response is None:
                self._task = asyncio.get_running_loop().create_task(self._answer_later(request, connection))
                break
            self._write(response, connection, with_body=request.method != "HEAD")
        if self._left or self._transport.is_closing():
            return
        if not self._owes:
            if self._ended or (self._draining and self._reader.part is Part.NOTHING):
                self._transport.close()
                return
            if self._reader.part is Part.BODY and self._reader.expects:
                self._reader.expects = False
                self._transport.write(CONTINUE)
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
        if self._draining:
            connection = CLOSES
        self._transport.write(response.text(connection, with_body=with_body))
        if connection is CLOSES:
            self._leave()
        elif self._writable:
            self._wait_for_more()

    def _leave(self) -> None:
        """Close. What the client still sends is read for a while, or else it might not see its last answer."""
        self._waiting.clear()
        self._reader.done = self._left = True
        if self._ended:
            self._transport.close()
            return
        self._transport.write_eof()
        if self._writable:
            self._deadline = self._clock() + LINGER_SECONDS

    # Time

    def _wait_for_more(self) -> None:
        seconds = {Part.NOTHING: IDLE_SECONDS, Part.HEAD: HEAD_SECONDS, Part.BODY: BODY_SECONDS}
        self._deadline = self._clock() + seconds[self._reader.part]

    def sweep(self, now: float) -> None:
        """Close a connection whose client has been idle, or slow, for too long."""
        if now < self._deadline or (self._owes and self._writable):
            return
        unsent = self._transport.get_write_buffer_size()
        if not self._writable and unsent <= self._unsent - MIN_TAKEN_BYTES:
            self._unsent, self._deadline = unsent, now + IDLE_SECONDS
        elif self._writable and not self._left and self._reader.part is not Part.NOTHING:
            self._reader.end(self._application.refuse(408, "The request was not sent in time."))
            self._waiting.extend(self._reader.feed(b""))
            self._continue()
        else:
            self._transport.abort()  # nothing is owed, or it is not taken

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
