"""The server as a whole: one model, its versions, a REST and a gRPC port."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from serving.model_server.options import Options

if TYPE_CHECKING:
    import socket

    from serving.model_server.grpc_service import GrpcServer
    from serving.model_server.http_server import HttpServer
    from serving.model_server.lifecycle import ServedModel
    from serving.model_server.loaded import LoadedModel
    from serving.model_server.rest import RestApi

_log = logging.getLogger(__name__)
_DRAIN_SECONDS = 30


class ModelServer:
    """Serves a model inside this process.

        with ModelServer(Options(model_name="feed", model_base_path="models/feed")) as server:
            httpx.post(f"{server.rest_url}/v1/models/feed:predict", json={"instances": [...]})

    It does not install signal handlers and does not configure logging.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rest_port: int | None = None
        self.grpc_port: int | None = None
        self._model: ServedModel[LoadedModel] | None = None
        self._listener: socket.socket | None = None
        self._api: RestApi | None = None
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None

    @property
    def rest_url(self) -> str | None:
        """`http://host:port`, or None while REST is off."""
        return None if self.rest_port is None else f"http://{self._at(self.rest_port)}"

    @property
    def grpc_target(self) -> str | None:
        """`host:port` for a gRPC channel, or None while gRPC is off."""
        return None if self.grpc_port is None else self._at(self.grpc_port)

    def start(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Load the newest version, then open the ports. Waits while the base path is empty.

        Args:
            cancelled: Asked while waiting; True gives up, and the ports stay closed.

        Raises:
            ServingError: No version could be loaded.
            OSError: A port is in use or not allowed.
        """
        try:
            self._start(cancelled)
        except BaseException:
            self.stop()
            raise

    def _start(self, cancelled: Callable[[], bool]) -> None:
        from serving.model_server import http_server

        options = self.options
        if options.rest_port is not None:
            # Before TensorFlow loads: a port in use should not take seconds to be noticed.
            self._listener = http_server.bind(options.bind_address, options.rest_port)

        from serving.model_server.grpc_service import GrpcServer
        from serving.model_server.lifecycle import ServedModel
        from serving.model_server.registry import Registry
        from serving.model_server.rest import RestApi

        self._model = ServedModel(
            options.model_name,
            options.base_path,
            self._load,
            poll_wait_seconds=options.poll_wait_seconds,
            max_load_retries=options.max_load_retries,
            load_retry_interval_seconds=options.load_retry_interval_seconds,
        )
        self._model.start()
        self._model.wait(cancelled)
        if cancelled():
            return
        registry = Registry([self._model])
        if options.grpc_port is not None:
            self._grpc = GrpcServer(registry, self._at(options.grpc_port))
            self.grpc_port = self._grpc.port
        if self._listener is not None:
            self._api = RestApi(registry, options.rest_timeout_ms / 1000)
            self._http = http_server.HttpServer(self._api, self._listener, _DRAIN_SECONDS)
            self._http.start()
            self.rest_port = self._listener.getsockname()[1]

    def stop(self) -> None:
        """Stop accepting, finish requests under way, unload. Safe to call again."""
        if self._api is not None:
            self._api.draining = True
        if self._http is not None:
            self._http.stop()
        elif self._listener is not None:
            self._listener.close()
        if self._grpc is not None:
            self._grpc.stop(_DRAIN_SECONDS)
        if self._api is not None:
            self._api.close()
        if self._model is not None:
            self._model.stop(_DRAIN_SECONDS)
        self._grpc = self._http = self._listener = self._api = self._model = None
        self.rest_port = self.grpc_port = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _load(self, folder: Path) -> LoadedModel:
        from serving.model_server.loaded import LoadedModel

        return LoadedModel(
            folder,
            tags=self.options.saved_model_tags,
            intra_op_parallelism=self.options.intra_op_parallelism,
            inter_op_parallelism=self.options.inter_op_parallelism,
        )

    def _at(self, port: int) -> str:
        address = self.options.bind_address
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
