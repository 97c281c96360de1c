"""The thread that answers HTTP: an event loop, its connections, and their end."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable

from serving.model_server.http_messages import Application
from serving.model_server.http_protocol import Connection

_log = logging.getLogger(__name__)
_SWEEP_SECONDS = 1.0
_FLUSH_SECONDS = 5.0  # for a client to take its last answer
_BACKLOG = 2048


class HttpLoop:
    """Serves `application` on `listener` until `stop`, which waits for requests under way."""

    def __init__(self, application: Application, listener: socket.socket, drain_seconds: float) -> None:
        self._application = application
        self._listener = listener
        self._drain_seconds = drain_seconds
        self._connections: set[Connection] = set()
        self._loop = _new_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rest-loop", daemon=True)

    def start(self) -> None:
        """Begin to accept. Returns when connections are answered."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop accepting, let requests under way finish, close."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        except BaseException as failure:
            self._failure = failure
            _log.debug("The loop ended.", exc_info=True)
        finally:
            self._loop.close()
            self._started.set()

    async def _serve(self) -> None:
        loop = self._loop
        server = await loop.create_server(
            lambda: Connection(self._application, self._connections, loop.time), sock=self._listener, backlog=_BACKLOG
        )
        self._started.set()
        sweeping = loop.create_task(self._sweep())
        await self._stop.wait()
        server.close()
        for connection in list(self._connections):
            connection.drain()
        await self._until(lambda: not any(one.busy for one in self._connections), self._drain_seconds)
        for connection in list(self._connections):
            connection.close()
        await self._until(lambda: not self._connections, _FLUSH_SECONDS)
        for connection in list(self._connections):
            connection.abort()
        sweeping.cancel()
        await asyncio.sleep(0)  # connections learn that they are lost

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = self._loop.time() + seconds
        while not condition() and self._loop.time() < deadline:
            await asyncio.sleep(0.01)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = self._loop.time()
            for connection in list(self._connections):
                connection.sweep(now)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # there is none for this system
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
