"""An edge server as a process: a port, signals, an exit."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from serving.edge.errors import BadRequest
from serving.edge.rest import EdgeApi
from serving.edge.store import BundleStore
from serving.listening import bind, host_and_port, is_loopback

_DRAIN_SECONDS = 10


class EdgeServer:
    """Serves a folder of bundles by REST inside this process, until `stop`.

    Args:
        folder: See `BundleStore`.
        port: 0 for any free one.
        bind_address: A loopback address, unless `allow_public_bind`: the server asks for no keys.
        allow_public_bind: Whether other machines may reach it, and it may be called by a name.
        poll_seconds: See `BundleStore`.

    Raises:
        BadBundle: No bundle can be served.
        BadRequest: The address is public.
        OSError: The port is taken or not allowed.

    Example:
        >>> import httpx
        >>> from serving import EdgeServer
        >>> with EdgeServer("bundles") as server:
        ...     answer = httpx.post(f"{server.url}/v1/recommendations", json={"history": [], "k": 3})
        >>> answer.status_code, len(answer.json()["items"])
        (200, 3)
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        port: int = 0,
        bind_address: str = "127.0.0.1",
        allow_public_bind: bool = False,
        poll_seconds: float = 5.0,
    ) -> None:
        from serving.http_server import HttpServer

        if not allow_public_bind and not is_loopback(bind_address):
            raise BadRequest(
                f"{bind_address} can be reached from other machines and this server asks for no keys: "
                "keep 127.0.0.1 behind a gateway, or give --allow-public-bind."
            )
        self.store = BundleStore(folder, poll_seconds=poll_seconds)
        listener = bind(bind_address, port, "The edge server")
        self.url = f"http://{host_and_port(bind_address, listener.getsockname()[1])}"
        self._api = EdgeApi(self.store, any_host=allow_public_bind)
        self._http = HttpServer(self._api, listener, _DRAIN_SECONDS)

    def start(self) -> None:
        """Begin to answer, and to look for newer bundles."""
        self._http.start()
        self.store.start()

    def stop(self) -> None:
        """Requests under way finish."""
        self._api.draining = True
        self.store.stop()
        self._http.stop()
        self._api.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def wait_for_stop() -> None:
    """Return at SIGTERM or SIGINT. Call it in the main thread."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        # With a timeout, because on some systems a signal does not interrupt an endless wait.
        while not stop.wait(1.0):
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def log_to_standard_error() -> None:
    """What happens to bundles, and what fails; not each request."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
