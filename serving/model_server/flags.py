"""TensorFlow Serving's command line, read into `Options`. Nothing is ignored: an unknown flag is an error."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from serving.model_server.options import OptionError, Options

# TensorFlow Serving has them; accepting them without doing what they say would mislead.
_REFUSED = {
    "this server runs on CPUs": "per_process_gpu_memory_fraction xla_gpu_compilation_enabled",
    "models run as they were exported, without XLA": "xla_cpu_compilation_enabled",
    "SavedModels are served, TensorFlow Lite models by `belfry edge`": (
        "prefer_tflite_model num_tflite_pools num_tflite_interpreters_per_pool use_tflite_model"
    ),
    "ALTS works inside Google's cloud only": "use_alts_credentials",
    "it has one platform, set by the --tensorflow_*_parallelism flags": (
        "platform_config_file tensorflow_session_config_file thread_pool_factory_config_file"
    ),
    "TensorFlow's profiler is not part of it": "enable_profiler",
    "the operating system decides what its file cache keeps": "flush_filesystem_caches",
    "a model's description is kept whole": "remove_unused_fields_from_bundle_metagraph",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(message.removeprefix("argument ") + ".")


def _whole(minimum: int, maximum: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if not minimum <= number <= maximum:
            raise argparse.ArgumentTypeError(f"needs a whole number from {minimum} to {maximum}, not {text!r}")
        return number

    return read


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"is true or false, not {text!r}")
    return text.lower() in ("true", "1")


def _arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    pairs: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise argparse.ArgumentTypeError(f"is a list of key=value, not {part!r}")
        try:
            pairs.append((key, int(value)))
        except ValueError:
            pairs.append((key, value))
    return tuple(pairs)


def _parser() -> _Parser:
    parser = _Parser(
        prog="belfry model-server",
        description="Serve SavedModels over TensorFlow Serving's REST and gRPC API.",
        allow_abbrev=False,
        add_help=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    port, count = _whole(0, 65535), _whole(0, 2**31 - 1)
    add("--port", type=port, default=8500, help="gRPC port, 0 for off")
    add("--rest_api_port", type=port, default=0, help="REST port, 0 for off")
    add("--rest_api_timeout_in_ms", type=_whole(1, 2**31 - 1), default=30_000, help="then a REST request gets 504")
    add("--rest_api_num_threads", type=count, default=0, help="threads that answer REST requests, 0 for automatic")
    add("--grpc_socket_path", default="", help="Unix socket that answers gRPC as well")
    add("--grpc_channel_arguments", type=_arguments, default=(), metavar="KEY=VALUE,...", help="for the gRPC server")
    add("--grpc_max_threads", type=count, default=0, help="threads that answer gRPC requests, 0 for automatic")
    add("--ssl_config_file", default="", help="text-format SSLConfig: TLS for the gRPC port")
    add("--model_name", help="name in URLs and requests (default: $MODEL_NAME, else 'default')")
    add("--model_base_path", help="folder of numbered versions (default: $MODEL_BASE_PATH/<model name>)")
    add("--model_config_file", default="", help="text-format ModelServerConfig, instead of the two flags above")
    add("--model_config_file_poll_wait_seconds", type=count, default=0, help="between looks at it, 0 reads it once")
    add("--num_load_threads", type=count, default=0, help="models loaded at once while serving, 0 is one")
    add("--num_unload_threads", type=count, default=0, help="models unloaded at once, 0 is one")
    add("--file_system_poll_wait_seconds", type=count, default=1, help="between looks for versions, 0 looks once")
    add("--max_num_load_retries", type=count, default=5, help="after a version's first failed load")
    add("--load_retry_interval_micros", type=_whole(0, 2**63 - 1), default=60_000_000, help="between those retries")
    add(
        "--num_request_iterations_for_warmup", type=_whole(1, 2**31 - 1), default=1, help="runs of each warm-up request"
    )
    add("--monitoring_config_file", default="", help="text-format MonitoringConfig: metrics for Prometheus")
    add("--request_log_file", default="", help="a JSON line for each request (not in TensorFlow Serving)")
    add("--request_log_rate", type=float, default=1.0, help="share of requests logged (not in TensorFlow Serving)")
    add("--batching_parameters_file", default="", help="text-format BatchingParameters, with --enable_batching")
    add("--saved_model_tags", default="serve", help="comma-separated tags of the graph to serve")
    add("--tensorflow_intra_op_parallelism", type=count, default=0, help="threads for one op, 0 for automatic")
    add("--tensorflow_inter_op_parallelism", type=count, default=0, help="threads across ops, 0 for the request's own")
    add("--tensorflow_session_parallelism", type=count, default=0, help="both of the above")
    add("--bind_address", default="127.0.0.1", help="address both ports listen on (not in TensorFlow Serving)")
    for name, default, text in (
        ("--enable_model_warmup", True, "replay assets.extra/tf_serving_warmup_requests before a version serves"),
        ("--rest_api_enable_cors_support", False, "let pages from everywhere ask by REST"),
        ("--enable_grpc_healthcheck_service", False, "offer grpc.health.v1.Health"),
        ("--enable_serialization_as_tensor_content", False, "answer gRPC with tensor_content for numbers"),
        ("--enable_batching", False, "run requests that arrive together in one batch"),
        ("--enable_signature_method_name_check", False, "classify and regress need signatures exported for them"),
        (
            "--allow_version_labels_for_unavailable_models",
            False,
            "let a new label name a version that does not serve yet",
        ),
        ("--allow_public_bind", False, "let other machines in, without keys (not in TensorFlow Serving)"),
        ("--version", False, "print versions and stop"),
        ("--help", False, "print this and stop"),
    ):
        add(name, type=_truth, nargs="?", const=True, default=default, metavar="true|false", help=text)
    return parser


def _refuse(extra: Sequence[str], known: Sequence[str]) -> NoReturn:
    flag = extra[0].split("=", 1)[0]
    name = flag.lstrip("-")
    if not flag.startswith("--"):
        raise OptionError(f"{flag!r} is not a flag: flags are written --name=value.")
    for reason, names in _REFUSED.items():
        if name in names.split():
            raise OptionError(f"--{name} is a TensorFlow Serving flag that this server does not have: {reason}.")
    close = difflib.get_close_matches("--" + name.replace("-", "_"), known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise OptionError(f"{flag} is not a flag of this server{hint}; --help lists them.")


def _version_text() -> str:
    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "(not installed)"

    return f"Belfry model server: {of('belfry')}\nTensorFlow: {of('tensorflow')}"


def read_flags(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Options | str:
    """Read the command line.

    Returns:
        The options, or the text that `--help` or `--version` asked for.

    Raises:
        OptionError: A flag is unknown, not supported yet or has a value that cannot be used.
    """
    parser = _parser()
    given, extra = parser.parse_known_args(list(argv))
    if given.help:
        return parser.format_help().rstrip()
    if given.version:
        return _version_text()
    if extra:
        _refuse(extra, [f"--{name}" for name in vars(given)])

    name = given.model_name or environ.get("MODEL_NAME") or "default"
    path = given.model_base_path
    if path is None and environ.get("MODEL_BASE_PATH"):
        # The container's entry point joins the two as well.
        path = os.path.join(environ["MODEL_BASE_PATH"], environ.get("MODEL_NAME") or name)
    if not path and not given.model_config_file:
        raise OptionError("--model_base_path is missing: give the folder that holds the model's numbered versions.")
    if given.port == 0 and given.rest_api_port == 0 and not given.grpc_socket_path:
        raise OptionError("--port and --rest_api_port are both 0, which is off: give at least one.")
    both = given.tensorflow_session_parallelism
    if both and (given.tensorflow_intra_op_parallelism or given.tensorflow_inter_op_parallelism):
        raise OptionError("--tensorflow_session_parallelism sets both others: give it alone, or the two.")
    return Options(
        model_base_path=path or "",
        model_name=name,
        model_config_file=given.model_config_file,
        model_config_poll_wait_seconds=given.model_config_file_poll_wait_seconds,
        allow_version_labels_for_unavailable_models=given.allow_version_labels_for_unavailable_models,
        num_load_threads=given.num_load_threads,
        num_unload_threads=given.num_unload_threads,
        grpc_port=given.port or None,
        rest_port=given.rest_api_port or None,
        bind_address=given.bind_address,
        allow_public_bind=given.allow_public_bind,
        grpc_socket_path=given.grpc_socket_path,
        ssl_config_file=given.ssl_config_file,
        grpc_channel_arguments=given.grpc_channel_arguments,
        grpc_max_threads=given.grpc_max_threads,
        enable_grpc_health=given.enable_grpc_healthcheck_service,
        serialize_as_tensor_content=given.enable_serialization_as_tensor_content,
        rest_threads=given.rest_api_num_threads,
        rest_cors=given.rest_api_enable_cors_support,
        rest_timeout_ms=given.rest_api_timeout_in_ms,
        poll_wait_seconds=given.file_system_poll_wait_seconds,
        max_load_retries=given.max_num_load_retries,
        load_retry_interval_seconds=given.load_retry_interval_micros / 1e6,
        enable_model_warmup=given.enable_model_warmup,
        warmup_iterations=given.num_request_iterations_for_warmup,
        check_signature_methods=given.enable_signature_method_name_check,
        monitoring_config_file=given.monitoring_config_file,
        request_log_file=given.request_log_file,
        request_log_rate=given.request_log_rate,
        enable_batching=given.enable_batching,
        batching_parameters_file=given.batching_parameters_file,
        saved_model_tags=tuple(tag.strip() for tag in given.saved_model_tags.split(",")),
        intra_op_parallelism=both or given.tensorflow_intra_op_parallelism,
        inter_op_parallelism=both or given.tensorflow_inter_op_parallelism,
    )
