"""The server as a whole: models, their versions, a REST and a gRPC port."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from serving.listening import bind, host_and_port
from serving.model_server.errors import Code, ServingError
from serving.model_server.options import Options

if TYPE_CHECKING:
    import socket

    from serving.model_server.batching import BatchScheduler
    from serving.model_server.config_watch import ConfigWatch
    from serving.model_server.grpc_server import GrpcServer
    from serving.model_server.http_loop import HttpLoop
    from serving.model_server.loaded import LoadedModel
    from serving.model_server.model_config import ModelConfig
    from serving.model_server.monitoring import Monitor
    from serving.model_server.registry import Registry
    from serving.model_server.request_log import Observer, RequestLog
    from serving.model_server.rest import RestApi
    from serving.model_server.served_models import Model, ServedModels
    from serving.model_server.slots import Slots

_log = logging.getLogger(__name__)
_DRAIN_SECONDS = 30
_STARTING_LOADS = 4 * (os.cpu_count() or 1)


class ModelServer:
    """Serves models inside this process.

    It does not install signal handlers and does not configure logging.

    Args:
        options: What is served, and where.

    Raises:
        ServingError: Of `start`: a model has no version that could be loaded.
        OSError: Of `start`: a port is in use or not allowed.

    Example:
        >>> import httpx
        >>> from serving import ModelServer, Options
        >>> with ModelServer(Options(model_name="news", model_base_path="models/news")) as server:
        ...     answer = httpx.get(f"{server.rest_url}/v1/models/news").json()
        >>> answer["model_version_status"][0]["state"]
        'AVAILABLE'
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rest_port: int | None = None
        self.grpc_port: int | None = None
        self._served: ServedModels | None = None
        self._monitor: Monitor | None = None
        self._request_log: RequestLog | None = None
        self._batches: BatchScheduler | None = None
        self._watch: ConfigWatch | None = None
        self._load_slots: Slots | None = None
        self._unload_slots: Slots | None = None
        self._listener: socket.socket | None = None
        self._api: RestApi | None = None
        self._http: HttpLoop | None = None
        self._grpc: GrpcServer | None = None
        self.registry: Registry | None = None  # while it runs: what `serving.client` asks in process

    @property
    def rest_url(self) -> str | None:
        """`http://host:port`, or None while REST is off."""
        return None if self.rest_port is None else f"http://{host_and_port(self.options.bind_address, self.rest_port)}"

    @property
    def grpc_target(self) -> str | None:
        """`host:port` for a gRPC channel, or None while gRPC is off."""
        return None if self.grpc_port is None else host_and_port(self.options.bind_address, self.grpc_port)

    @property
    def model_names(self) -> list[str]:
        """The models that are asked for now."""
        return list(self._served.configs) if self._served else []

    def start(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Load every model, then open the ports. Waits while a base path is empty.

        Args:
            cancelled: Asked while waiting; True gives up, and the ports stay closed.

        Raises:
            ServingError: A model has no version that could be loaded, or the model config file is wrong.
            OSError: A port is in use or not allowed.
        """
        try:
            self._start(cancelled)
        except BaseException:
            self.stop()
            raise

    def _start(self, cancelled: Callable[[], bool]) -> None:
        options = self.options
        if options.rest_port is not None:
            # Before TensorFlow loads: a port in use should not take seconds to be noticed.
            self._listener = bind(options.bind_address, options.rest_port, "REST")

        from serving.model_server.config_watch import ConfigWatch, read_content
        from serving.model_server.model_config import ModelConfig, read_model_configs

        config_file = Path(options.model_config_file) if str(options.model_config_file) else None
        content: bytes | None = None
        if config_file is not None:
            content = read_content(config_file)
            configs = read_model_configs(config_file)
        else:
            configs = [ModelConfig(options.model_name, options.base_path)]

        if str(options.monitoring_config_file):
            from serving.model_server.monitoring import read_monitoring_config

            self._monitor = read_monitoring_config(Path(options.monitoring_config_file))

        if str(options.request_log_file):
            from serving.model_server.request_log import RequestLog

            self._request_log = RequestLog(Path(options.request_log_file), options.request_log_rate)
        if options.enable_batching:
            from serving.model_server.batching import BatchingParameters, BatchScheduler, read_batching_parameters

            file = str(options.batching_parameters_file)
            self._batches = BatchScheduler(read_batching_parameters(Path(file)) if file else BatchingParameters())

        from serving.model_server.grpc_server import GrpcServer
        from serving.model_server.http_loop import HttpLoop
        from serving.model_server.registry import Registry
        from serving.model_server.rest import RestApi
        from serving.model_server.served_models import ServedModels
        from serving.model_server.slots import Slots

        self._load_slots = Slots(_STARTING_LOADS)  # nothing is served yet that loads could slow down
        self._unload_slots = Slots(options.num_unload_threads or 1)
        self._served = ServedModels(
            self._create, labels_for_unavailable=options.allow_version_labels_for_unavailable_models
        )
        if config_file is not None and options.model_config_poll_wait_seconds:
            poll_seconds = options.model_config_poll_wait_seconds
            # TensorFlow Serving, too, gets there: it applies the file again at its next look.
            follow = partial(self._served.apply, labels_may_wait=True)
            self._watch = ConfigWatch(config_file, follow, poll_seconds, content)
        try:
            self._served.apply(configs, cancelled)
        except ServingError:
            if cancelled():
                return
            raise
        self._load_slots.resize(options.num_load_threads or 1)
        if self._watch is not None:
            self._watch.start()
        registry = self.registry = Registry(self._served)
        observer = self._observer(registry)
        if options.grpc_port is not None or str(options.grpc_socket_path):
            address = None if options.grpc_port is None else host_and_port(options.bind_address, options.grpc_port)
            self._grpc = GrpcServer(registry, self._served, address, options, observer)
            self.grpc_port = self._grpc.port
        if self._listener is not None:
            self._api = RestApi(registry, options, self._monitor, observer)
            self._http = HttpLoop(self._api, self._listener, _DRAIN_SECONDS)
            self._http.start()
            self.rest_port = self._listener.getsockname()[1]

    def stop(self) -> None:
        """Stop accepting, finish requests under way, unload. Safe to call again."""
        if self._api is not None:
            self._api.draining = True
        if self._watch is not None:
            self._watch.stop()
        if self._http is not None:
            self._http.stop()
        elif self._listener is not None:
            self._listener.close()
        if self._grpc is not None:
            self._grpc.stop(_DRAIN_SECONDS)
        if self._api is not None:
            self._api.close()
        if self._served is not None:
            self._served.stop(_DRAIN_SECONDS)
        if self._batches is not None:
            self._batches.stop()
        if self._request_log is not None:
            self._request_log.stop()
        self._grpc = self._http = self._listener = self._api = self._watch = self._served = self._batches = (
            self._request_log
        ) = self.registry = None
        self.rest_port = self.grpc_port = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _observer(self, registry: Registry) -> Observer | None:
        monitor, log = self._monitor, self._request_log
        if monitor is None:
            return log.request if log else None

        def observe(model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
            if registry.has(model):
                monitor.request(model, api, entrypoint, code, seconds)
            if log is not None:
                log.request(model, api, entrypoint, code, seconds)

        return observe

    def _create(self, config: ModelConfig) -> Model:
        from serving.model_server.lifecycle import ServedModel

        return ServedModel(
            config.name,
            config.base_path,
            partial(self._load, config.name),
            policy=config.policy,
            poll_wait_seconds=self.options.poll_wait_seconds,
            max_load_retries=self.options.max_load_retries,
            load_retry_interval_seconds=self.options.load_retry_interval_seconds,
            load_slots=self._load_slots,
            unload_slots=self._unload_slots,
        )

    def _load(self, name: str, folder: Path) -> LoadedModel:
        from serving.model_server.loaded import LoadedModel
        from serving.model_server.warm_up import warm_up

        model = LoadedModel(
            folder,
            tags=self.options.saved_model_tags,
            intra_op_parallelism=self.options.intra_op_parallelism,
            inter_op_parallelism=self.options.inter_op_parallelism,
            batches=self._batches,
            ran=partial(self._monitor.run, name) if self._monitor else None,
        )
        if self.options.enable_model_warmup:
            try:
                warm_up(model, folder, self.options.warmup_iterations)
            except BaseException:
                model.close()
                raise
        return model
