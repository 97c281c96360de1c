"""A model server that speaks TensorFlow Serving's REST and gRPC API, without a container.

    belfry model-server --model_name=feed --model_base_path=/models/feed --rest_api_port=8501

    with ModelServer(Options(model_name="feed", model_base_path="models/feed")) as server:
        httpx.post(f"{server.rest_url}/v1/models/feed:predict", json={"instances": [...]})

Importing this package is instant; TensorFlow loads when a server starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.model_server.errors import ServingError
    from serving.model_server.options import OptionError, Options
    from serving.model_server.server import ModelServer

__all__ = ["ModelServer", "OptionError", "Options", "ServingError", "run"]

_HOME = {"ModelServer": "server", "OptionError": "options", "Options": "options", "ServingError": "errors"}


def run(argv: list[str]) -> int:
    """Serve until SIGTERM or SIGINT and return the process's exit code.

    Returns:
        0 after a graceful stop (and for `--help` and `--version`), 1 when serving could not start, 2 for a bad flag.
    """
    from serving.model_server.process import serve

    return serve(argv)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
