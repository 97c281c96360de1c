"""A gateway as a server: a port, and an embedded model server where none is named."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from serving.events import Store
from serving.events.keys import list_keys
from serving.gateway.errors import Refused
from serving.gateway.settings import Settings

_IDLE_SECONDS = 75
_log = logging.getLogger(__name__)


class GatewayServer:
    """Serves inside this process until `stop`, in a thread of its own.

    Args:
        settings: See `Settings`.
        model_server: A started `serving.model_server.ModelServer`; by default what the settings name.

    Raises:
        StoreError: The store cannot be opened.
        Refused: The address is public, and the store has no keys.
        OSError: The port is taken or not allowed.
    """

    def __init__(self, settings: Settings, model_server: Any = None) -> None:
        self.settings = settings
        self.store = Store(settings.store_url.get_secret_value())
        self._asked = settings.model_server or model_server
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._server: Any = None
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        try:
            if settings.is_public and not list_keys(self.store):
                raise Refused(
                    403,
                    f"{settings.bind} can be reached from other machines, and the store has no keys: "
                    "make one with `belfry keys create`, or keep 127.0.0.1.",
                )
            self._listener = _bind(settings.bind, settings.port)
        except BaseException:
            self.store.close()
            raise
        host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
        self.url = f"http://{host}:{self._listener.getsockname()[1]}"

    def start(self) -> None:
        """Begin to answer. Returns when the catalogue is read."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Take no more requests, let those under way finish, write what waits."""
        if self._server is not None:
            self._server.gateway.draining = True
            self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._listener.close()
        self.store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._server, loop = _server(self.settings, self.store, self._asked, self._ready.set)
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(self._server.serve(sockets=[self._listener]))
        except SystemExit:
            # uvicorn's way to say that the gateway did not start.
            self._failure = self._server.gateway.failure or RuntimeError("The gateway did not start.")
        except BaseException as failure:
            self._failure = failure
        finally:
            self._ready.set()


def _server(settings: Settings, store: Store, model_server: Any, ready: Callable[[], None]) -> Any:
    import uvicorn

    from serving.gateway.app import create_app
    from serving.gateway.gateway import Gateway
    from serving.gateway.guard import Guard

    class Server(uvicorn.Server):
        """Says when it answers; whoever started it handles signals."""

        gateway: Gateway

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield

    gateway = Gateway(settings, store, model_server)
    guard = Guard(create_app(gateway), settings, gateway.metrics, needs_key=settings.is_public)
    gateway.guard = guard
    config = uvicorn.Config(
        guard,
        http="httptools",
        loop="auto",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    server = Server(config)
    server.gateway = gateway
    return server, config.get_loop_factory()


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise OSError(f"The gateway cannot listen on {address}:{port}: {error.strerror}.") from None
    return listener


def model_in(models: Path, name: str | None) -> tuple[str, Path]:
    """The name and folder of the model in MODELS/NAME/VERSION; where there are several, `name` chooses.

    Raises:
        ValueError: There is none, or several and none was named.
    """
    models = Path(models)
    found = {
        path.name: path
        for path in sorted(models.iterdir() if models.is_dir() else [])
        if path.is_dir() and any(each.name.isdecimal() for each in path.iterdir())
    }
    if name is not None and name in found:
        return name, found[name]
    if name is None and len(found) == 1:
        return next(iter(found.items()))
    if not found:
        raise ValueError(f"{models} has no model: give the folder that holds NAME/VERSION, as `belfry export` writes.")
    raise ValueError(f"{models} has {', '.join(found)}: name one of them with --model.")


class JsonLines(logging.Formatter):
    """A log record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def log_to_standard_error() -> None:
    """One line of JSON for each request, and for what else happens."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "alembic", "httpx", "tensorflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
