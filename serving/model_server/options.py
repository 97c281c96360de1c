"""What a model server can be told. Wrong values are refused here, before TensorFlow loads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from serving.listening import is_loopback


class OptionError(ValueError):
    """A setting that cannot be used. The message is one sentence.

    Example:
        >>> from serving import OptionError, Options
        >>> try:
        ...     Options(model_base_path="models/news", rest_port=-5)
        ... except OptionError as error:
        ...     print("port" in str(error))
        True
    """


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of one server. Ports: a number, 0 for any free port, None for off. Both off: only this process asks.

    Models: one, `model_name` in `model_base_path`, or those that `model_config_file` lists.

    Args:
        model_base_path: The folder with numbered versions.
        model_name: Under which it is asked for.
        model_config_file: Several models, in TensorFlow Serving's text format.

    Every other field is the flag of TensorFlow Serving that has its name: `belfry model-server --help` explains each.

    Raises:
        OptionError: A value is out of range, or the address is public without `allow_public_bind`.

    Example:
        >>> from serving import Options
        >>> options = Options(model_name="news", model_base_path="models/news", grpc_port=None)
        >>> options.rest_port, options.bind_address
        (0, '127.0.0.1')
    """

    model_base_path: str | os.PathLike[str] = ""  # holds one folder per version: 1/, 2/, ...
    model_name: str = "default"
    model_config_file: str | os.PathLike[str] = ""  # a text-format ModelServerConfig, instead of the two above
    model_config_poll_wait_seconds: float = 0.0  # 0 reads the file once
    allow_version_labels_for_unavailable_models: bool = False
    num_load_threads: int = 0  # models loaded at once after the start; 0 is one
    num_unload_threads: int = 0  # models unloaded at once; 0 is one
    grpc_port: int | None = 0
    rest_port: int | None = 0
    bind_address: str = "127.0.0.1"
    allow_public_bind: bool = False  # there are no keys yet: whoever reaches the port may ask
    grpc_socket_path: str | os.PathLike[str] = ""  # a Unix socket that answers as well, without TLS
    ssl_config_file: str | os.PathLike[str] = ""  # text-format SSLConfig, for the gRPC port
    grpc_channel_arguments: tuple[tuple[str, int | str], ...] = ()
    grpc_max_threads: int = 0  # 0 for automatic
    enable_grpc_health: bool = False
    serialize_as_tensor_content: bool = False
    rest_timeout_ms: int = 30_000
    rest_threads: int = 0  # 0 for automatic
    rest_cors: bool = False  # let pages from everywhere ask
    poll_wait_seconds: float = 1.0  # 0 looks for versions once
    max_load_retries: int = 5
    load_retry_interval_seconds: float = 60.0
    enable_model_warmup: bool = True
    warmup_iterations: int = 1  # how often each request of a version's warm-up file runs
    check_signature_methods: bool = False  # whether classify and regress need signatures exported for them
    monitoring_config_file: str | os.PathLike[str] = ""  # text-format MonitoringConfig
    request_log_file: str | os.PathLike[str] = ""  # a line of JSON for each request, without what was asked
    request_log_rate: float = 1.0  # the share of requests that are logged
    enable_batching: bool = False
    batching_parameters_file: str | os.PathLike[str] = ""  # text-format BatchingParameters
    saved_model_tags: tuple[str, ...] = ("serve",)
    intra_op_parallelism: int = 0  # threads for one op; 0 lets TensorFlow choose
    inter_op_parallelism: int = 0  # threads across ops; 0 runs a request's ops in the thread that took the request

    def __post_init__(self) -> None:
        if not str(self.model_base_path) and not str(self.model_config_file):
            raise OptionError("model_base_path is empty: give the folder that holds the model's numbered versions.")
        if "://" in str(self.model_base_path):
            raise OptionError(f"model_base_path {self.model_base_path} is not a local folder: copy the model first.")
        if not self.model_name or any(letter in self.model_name for letter in "/:"):
            raise OptionError(f"model_name must be a word without '/' and ':', not {self.model_name!r}.")
        for name, port in (("grpc_port", self.grpc_port), ("rest_port", self.rest_port)):
            if port is not None and not 0 <= port <= 65535:
                raise OptionError(f"{name} must be from 0 to 65535, not {port}.")
        if not 0 <= self.request_log_rate <= 1:
            raise OptionError(f"request_log_rate must be from 0 to 1, but is {self.request_log_rate}.")
        if str(self.ssl_config_file) and self.grpc_port is None:
            raise OptionError("ssl_config_file needs the gRPC port: REST has no TLS.")
        if str(self.batching_parameters_file) and not self.enable_batching:
            raise OptionError("batching_parameters_file is given without enable_batching.")
        if str(self.monitoring_config_file) and self.rest_port is None:
            raise OptionError("monitoring_config_file needs the REST port, where metrics are read.")
        if self.grpc_port is not None and self.grpc_port == self.rest_port and self.grpc_port != 0:
            raise OptionError(f"gRPC and REST cannot share port {self.grpc_port}.")
        for name in (
            "poll_wait_seconds",
            "model_config_poll_wait_seconds",
            "grpc_max_threads",
            "rest_threads",
            "warmup_iterations",
            "num_load_threads",
            "num_unload_threads",
            "max_load_retries",
            "load_retry_interval_seconds",
            "intra_op_parallelism",
            "inter_op_parallelism",
        ):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} must not be negative, but is {getattr(self, name)}.")
        if self.rest_timeout_ms <= 0:
            raise OptionError(f"rest_timeout_ms must be positive, but is {self.rest_timeout_ms}.")
        if not self.saved_model_tags or not all(self.saved_model_tags):
            raise OptionError("saved_model_tags is empty: the usual tag is 'serve'.")
        if not self.allow_public_bind and not is_loopback(self.bind_address):
            raise OptionError(
                f"{self.bind_address} can be reached from other machines and this server asks for no keys: "
                "keep 127.0.0.1 behind a gateway, or give --allow_public_bind."
            )

    @property
    def base_path(self) -> Path:
        return Path(self.model_base_path)
