"""A gateway with its model server, in this process: from a folder of models and a store to a feed at a URL."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from serving.events import StoreError
from serving.gateway.clock import Clock, wall_clock
from serving.gateway.errors import Refused
from serving.gateway.server import GatewayServer, model_in
from serving.gateway.settings import Settings
from serving.gateway.version_book import VersionBook

# What `belfry registry` writes beside the models, and its label of what serves.
CONFIG, CHAMPION = "models.config", "champion"


class ServingStack:
    """A gateway and a model server that start and stop together; what `belfry serve` runs.

    Where the folder of models has a registry, the version that it calls champion answers, and the servers follow its
    changes within a second or two; else the newest version does.

    It installs no signal handlers and configures no logging. It is one process: for several gateways, or a model server
    elsewhere, give `model_server=` instead of `models`.

    Args:
        store: A folder for SQLite, or a postgresql:// URL; see `Store`.
        models: The folder with MODELS/NAME/VERSION, for a model server in this process; None for one elsewhere.
        model: The model's name; needed where `models` holds several, or a server elsewhere is asked.
        rest_port, grpc_port: Of the model server on loopback; 0 for any free one, None for off.
        clock: What time it is for whatever is stored or shown.
        version_book: Given the model's name, who knows which versions of it there are; None where nobody does.
        settings: Further fields of `Settings`, such as `deadline_ms` and `explore`. `port` is 0 by default: any free
            one. What is not given comes from BELFRY_... in the environment.

    Raises:
        ValueError: It cannot start, of `start` too; one sentence says why.

    Example:
        >>> import httpx
        >>> from serving import ServingStack
        >>> with ServingStack("store", "models", deadline_ms=5_000, log_requests=False) as stack:
        ...     answer = httpx.post(f"{stack.url}/v1/recommendations", json={"user_id": "u1", "k": 3})
        >>> answer.status_code, answer.json()["model"]["name"], len(answer.json()["items"])
        (200, 'news', 3)
    """

    def __init__(
        self,
        store: Path | str,
        models: Path | str | None = None,
        *,
        model: str | None = None,
        rest_port: int | None = 0,
        grpc_port: int | None = 0,
        clock: Clock = wall_clock,
        version_book: Callable[[str], VersionBook] | None = None,
        **settings: Any,
    ) -> None:
        self._folder: Path | None = None
        chosen: dict[str, Any] = {"store_url": str(store), "port": 0} | settings
        if models is not None:
            model, self._folder = model_in(Path(models), model)
            if (Path(models) / CONFIG).is_file():
                # A registry says what serves: its champion, not what was exported last.
                chosen = {"label": CHAMPION, **chosen}
        try:
            self.settings = Settings(**(chosen if model is None else chosen | {"model": model}))
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'settings'}: {first['msg']}.") from None
        if self._folder is None and not self.settings.model_server:
            raise ValueError("Give a folder of models, or a model_server elsewhere.")
        self._ports, self._clock, self._version_book = (rest_port, grpc_port), clock, version_book
        self._opened = contextlib.ExitStack()
        self.model_server: Any = None
        self._gateway: GatewayServer | None = None

    @property
    def url(self) -> str:
        """The gateway's, such as http://127.0.0.1:8080; the console is there too.

        Raises:
            ValueError: It has not been started.
        """
        return self.server.url

    @property
    def server(self) -> GatewayServer:
        """The gateway alone.

        Raises:
            ValueError: It has not been started.
        """
        if self._gateway is None:
            raise ValueError("It has not been started.")
        return self._gateway

    @property
    def rest_url(self) -> str | None:
        """The model server's, or None where it is off or elsewhere."""
        return None if self.model_server is None else self.model_server.rest_url

    @property
    def grpc_target(self) -> str | None:
        """The model server's `host:port`, or None where gRPC is off or the server is elsewhere."""
        return None if self.model_server is None else self.model_server.grpc_target

    def start(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Load the model, then answer. Returns when feeds are the model's own, or a server elsewhere had no answer.

        Args:
            cancelled: Asked while a model is waited for; True gives up, and nothing is started.

        Raises:
            ValueError: It cannot start; one sentence says why.
        """
        try:
            with contextlib.ExitStack() as opening:
                if self._folder is not None:
                    self.model_server = self._start_model_server(self._folder, cancelled)
                    opening.callback(self.model_server.stop)
                if cancelled():
                    return
                book = None if self._version_book is None else self._version_book(self.settings.model)
                gateway = GatewayServer(self.settings, self.model_server, self._clock, versions=book)
                opening.enter_context(gateway)
                _wait_until_ready(gateway, cancelled)
                self._gateway, self._opened = gateway, opening.pop_all()
        except (StoreError, Refused, OSError) as error:
            raise ValueError(str(error)) from None

    def stop(self) -> None:
        """Take no more requests, let those under way finish, write what waits."""
        self._opened.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_model_server(self, folder: Path, cancelled: Callable[[], bool]) -> Any:
        from serving.model_server import ModelServer, OptionError, Options, ServingError
        from serving.model_server.model_config import read_model_configs
        from serving.model_server.onednn import load_with_onednn

        # A model server alone goes without, which keeps memory low after a swap. But without oneDNN the scores of 4
        # users for 50,000 items take 60 ms of the processor instead of 9.
        load_with_onednn(True)
        name, label, config = self.settings.model, self.settings.label or CHAMPION, folder.parent / CONFIG
        models: dict[str, Any] = {"model_name": name, "model_base_path": folder}
        if config.is_file():
            models = {"model_config_file": config, "model_config_poll_wait_seconds": 1}
            models["allow_version_labels_for_unavailable_models"] = True
            # Without it fallbacks would answer for ever: a canary alone is nobody's answer.
            if not any(each.name == name and label in each.labels for each in read_model_configs(config)):
                raise ValueError(f"The registry in {folder.parent} has no {label} of {name}: belfry registry promote.")
        rest_port, grpc_port = self._ports
        try:
            server = ModelServer(Options(**models, rest_port=rest_port, grpc_port=grpc_port))
            server.start(cancelled=cancelled)
        except (OptionError, ServingError) as error:
            raise ValueError(str(error)) from None
        return server


def _wait_until_ready(gateway: GatewayServer, cancelled: Callable[[], bool]) -> None:
    """The first feeds are then the model's own, unless its server is elsewhere and away."""
    while not gateway.gateway.ready() and not cancelled():
        time.sleep(0.02)
