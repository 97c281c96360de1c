"""An ASGI application on a socket, in a thread of its own: uvicorn with httptools and uvloop."""

from __future__ import annotations

import socket
import threading
from typing import Any

import uvicorn

_IDLE_SECONDS = 75  # longer than usual clients keep a connection, so that none is closed under a request


class HttpServer:
    """Serves `app` on `listener` until `stop`, which waits for requests under way.

    It handles no signals: whoever started it calls `stop`.

    Args:
        app: The application. No WebSockets reach it.
        listener: A bound socket, see `serving.listening`. It is closed in the end.
        drain_seconds: What requests under way get.
        lifespan: Whether the application is told of the start, before any request, and of the end.
        name: Of the thread.
    """

    def __init__(
        self,
        app: Any,
        listener: socket.socket,
        drain_seconds: int,
        *,
        lifespan: bool = False,
        name: str = "rest-loop",
    ) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            loop="auto",  # uvloop where it exists
            ws="none",
            lifespan="on" if lifespan else "off",
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
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin to accept. Returns when connections are answered.

        Raises:
            OSError: Another server listens on the port by now.
            RuntimeError: The application refused to start; it knows why.
        """
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop accepting, let requests under way finish, close."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except SystemExit:  # uvicorn's way to say so
            self._failure = RuntimeError("The application did not start.")
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
