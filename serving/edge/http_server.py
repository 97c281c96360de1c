"""An ASGI application on a socket, in a thread of its own: uvicorn with httptools and uvloop."""

from __future__ import annotations

import socket
import threading
from typing import Any

import uvicorn

_IDLE_SECONDS = 75  # longer than usual clients keep a connection, so that none is closed under a request


class HttpServer:
    """Serves `app` on `listener` until `stop`, which waits for requests under way."""

    def __init__(self, app: Any, listener: socket.socket, drain_seconds: int) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            loop="auto",  # uvloop where it exists
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=drain_seconds,
        )
        self._listener = listener
        self._started = threading.Event()
        self._server = _Server(config, self._started)
        self._thread = threading.Thread(target=self._run, name="rest-loop", daemon=True)
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin to accept. Returns when connections are answered."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop accepting, let requests under way finish, close."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except BaseException as failure:
            self._failure = failure
        finally:
            self._started.set()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._event = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._event.set()
