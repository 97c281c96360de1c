"""The gRPC server: addresses, TLS, threads, limits, and which services it offers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.model_server.errors import invalid
from serving.model_server.grpc_service import ModelService, PredictionService, Unreadable
from serving.model_server.options import Options
from serving.model_server.registry import Registry
from serving.model_server.request_log import Observer
from serving.model_server.served_models import ServedModels
from serving.model_server.text_config import read_text_config

THREADS = 8  # Python's share of a request is what limits a server; more threads only wait for one another
BATCHING_THREADS = 64  # with batching they do wait for one another
MAX_MESSAGE_BYTES = 1 << 28
MAX_QUEUED = 1024  # more requests at once get RESOURCE_EXHAUSTED


class GrpcServer:
    """Answers on `address` (`host:port`, port 0 for any free one) from its construction to `stop`.

    Args:
        address: None to listen on `options.grpc_socket_path` alone.

    Raises:
        OSError: The address or the socket cannot be bound.
        ServingError: INVALID_ARGUMENT, the TLS file cannot be used.
    """

    def __init__(
        self,
        registry: Registry,
        served: ServedModels,
        address: str | None,
        options: Options,
        observer: Observer | None = None,
    ) -> None:
        credentials = _credentials(Path(options.ssl_config_file)) if str(options.ssl_config_file) else None
        threads = options.grpc_max_threads or (BATCHING_THREADS if options.enable_batching else THREADS)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="grpc")
        arguments: dict[str, int | str] = {
            "grpc.so_reuseport": 0,  # else a second server on the port takes half of the requests, silently
            "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
            "grpc.max_send_message_length": -1,
            **dict(options.grpc_channel_arguments),
        }
        self._server = grpc.server(self._threads, options=list(arguments.items()), maximum_concurrent_rpcs=MAX_QUEUED)
        predictions = PredictionService(
            registry,
            observer,
            check_methods=options.check_signature_methods,
            as_content=options.serialize_as_tensor_content,
        )
        _add(self._server, predictions)
        self._models = ModelService(registry, served)
        _add(self._server, self._models)
        self._health = self._add_health() if options.enable_grpc_health else None
        self.port: int | None = None if address is None else self._listen(address, credentials)
        if str(options.grpc_socket_path):
            self._listen(f"unix:{options.grpc_socket_path}", None)
        self._server.start()

    def stop(self, drain_seconds: float) -> None:
        """Accept nothing more and let the calls under way finish."""
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        self._models.stopping = True
        self._server.stop(drain_seconds).wait()
        self._threads.shutdown()

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise OSError(f"gRPC cannot listen on {address}: it is in use or not allowed.")
        return int(port)

    def _add_health(self) -> Any:
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc

        servicer = health.HealthServicer()
        for name in ("", PredictionService.NAME, ModelService.NAME):
            servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        return servicer


def _add(server: grpc.Server, service: PredictionService | ModelService) -> None:
    """Offer the service's methods. What is no message becomes `Unreadable`.

    The generated code would let the deserialiser raise: grpcio logs that, and keeps 18 KB of every such request.
    """

    def reading(kind: Any) -> Callable[[bytes], Any]:
        def read(data: bytes) -> Any:
            try:
                return kind.FromString(data)
            except DecodeError:
                return Unreadable(kind.DESCRIPTOR.full_name)

        return read

    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            getattr(service, name),
            request_deserializer=reading(request),
            response_serializer=response.SerializeToString,
        )
        for name, (request, response) in service.METHODS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.NAME, handlers),))


def _credentials(file: Path) -> grpc.ServerCredentials:
    config = read_text_config(file, "SSLConfig")
    if not config.server_key or not config.server_cert:
        raise invalid(f"{file}: server_key and server_cert are needed, as PEM text.")
    if config.client_verify and not config.custom_ca:
        raise invalid(f"{file}: client_verify needs custom_ca, the certificates that clients' are signed with.")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
