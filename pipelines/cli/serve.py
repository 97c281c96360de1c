"""The command that runs a gateway, with a model server in the same process or elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.events import StoreOption
from pipelines.cli.options import Json, show
from pipelines.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command()(serve)


def serve(
    store: StoreOption,
    models: Annotated[
        Path | None, typer.Option(help="The folder that holds NAME/VERSION, as `belfry export` writes.")
    ] = None,
    model: Annotated[str | None, typer.Option(envvar="BELFRY_MODEL", help="Its name, where there are several.")] = None,
    model_server: Annotated[
        str | None,
        typer.Option(
            "--model-server",
            envvar="BELFRY_MODEL_SERVER",
            metavar="URL",
            help="grpc://host:port or http://host:port of TensorFlow Serving, instead of --models.",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            envvar="BELFRY_LABEL", help="Of the version that answers; by default a registry's champion, or the newest."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(envvar="BELFRY_PORT", min=0, max=65535, help="Of the gateway; 0 for any free one.")
    ] = 8080,
    rest_port: Annotated[int, typer.Option("--rest-port", help="Of the model server; -1 for off.")] = 8501,
    grpc_port: Annotated[int, typer.Option("--grpc-port", help="Of the model server; -1 for off.")] = 8500,
    bind: Annotated[
        str, typer.Option(envvar="BELFRY_BIND", help="The gateway's address; the model server stays on loopback.")
    ] = "127.0.0.1",
    redis: Annotated[
        str | None, typer.Option(envvar="BELFRY_REDIS_URL", help="redis://host:port, for several gateways.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve personalised feeds: recommendations, events and items by REST, until SIGTERM or Ctrl-C.

    Other settings are BELFRY_... in the environment, such as BELFRY_DEADLINE_MS and BELFRY_RATE.
    """
    if (models is None) == (model_server is None):
        raise BadInput("give --models for a model server in this process, or --model-server for one elsewhere.")
    if model_server is not None and model is None:
        raise BadInput("name the model with --model: the server may have several.")
    from pipelines.registry import REGISTRY
    from pipelines.version_book import RegistryBook
    from serving.gateway.run import run_gateway

    chosen: dict[str, Any] = {"bind": bind, "port": port}
    chosen |= {
        name: value for name, value in (("model_server", model_server), ("redis_url", redis), ("label", label)) if value
    }
    kept = models if models is not None and (models / REGISTRY).is_file() else None
    try:
        run_gateway(
            store,
            chosen,
            models=models,
            model=model,
            rest_port=None if rest_port < 0 else rest_port,
            grpc_port=None if grpc_port < 0 else grpc_port,
            version_book=None if kept is None else lambda name: RegistryBook(kept, name),
            started=lambda found: show(found, _lines(found), as_json=as_json),
        )
    except ValueError as error:
        raise BadInput(str(error)) from None


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"gateway ready at {found['url']}/v1/recommendations, model {found['model']}, store {found['store']}"]
    lines.append(f"console at {found['url']}/")
    lines += [f"model server ready at {found[name]}" for name in ("rest", "grpc") if found.get(name)]
    return lines
