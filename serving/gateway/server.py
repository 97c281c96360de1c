"""A gateway as a server: a port, and an embedded model server where none is named."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from serving.events import Store
from serving.events.keys import list_keys
from serving.gateway.app import create_app
from serving.gateway.clock import Clock, wall_clock
from serving.gateway.errors import Refused
from serving.gateway.gateway import Gateway
from serving.gateway.guard import Guard
from serving.gateway.settings import Settings
from serving.gateway.version_book import VersionBook
from serving.http_server import HttpServer
from serving.listening import bind, host_and_port


class GatewayServer:
    """Serves inside this process until `stop`, in a thread of its own.

    Args:
        settings: See `Settings`.
        model_server: A started `serving.model_server.ModelServer`; by default what the settings name.
        clock: What time it is for whatever is stored or shown; a simulation has its own.
        versions: Who knows which versions of the model there are; None where nobody does.

    Raises:
        StoreError: The store cannot be opened.
        Refused: The address is public, and the store has no keys.
        OSError: The port is taken or not allowed.

    Example:
        >>> import httpx
        >>> from serving import GatewayServer, ModelServer, Options, Settings
        >>> settings = Settings(store_url="store", model="news", port=0, log_requests=False)
        >>> with ModelServer(Options(model_name="news", model_base_path="models/news")) as model_server:
        ...     with GatewayServer(settings, model_server) as gateway:
        ...         httpx.get(f"{gateway.url}/readyz").json()["status"]
        'ready'
    """

    def __init__(
        self,
        settings: Settings,
        model_server: Any = None,
        clock: Clock = wall_clock,
        versions: VersionBook | None = None,
    ) -> None:
        self.settings = settings
        self.store = Store(settings.store_url.get_secret_value())
        try:
            if settings.is_public and not list_keys(self.store):
                raise Refused(
                    403,
                    f"{settings.bind} can be reached from other machines, and the store has no keys: "
                    "make one with `belfry keys create`, or keep 127.0.0.1.",
                )
            listener = bind(settings.bind, settings.port, "The gateway")
        except BaseException:
            self.store.close()
            raise
        self.url = f"http://{host_and_port(settings.bind, listener.getsockname()[1])}"
        self.gateway = Gateway(settings, self.store, settings.model_server or model_server, clock, versions)
        guard = Guard(create_app(self.gateway), settings, self.gateway.metrics, needs_key=settings.is_public)
        self.gateway.guard = guard
        self._http = HttpServer(guard, listener, settings.drain_seconds, lifespan=True, name="gateway")

    def start(self) -> None:
        """Begin to answer. Returns when the catalogue is read."""
        try:
            self._http.start()
        except RuntimeError:
            raise self.gateway.failure or RuntimeError("The gateway did not start.") from None

    def stop(self) -> None:
        """Take no more requests, let those under way finish, write what waits."""
        self.gateway.draining = True
        self._http.stop()
        self.store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


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
