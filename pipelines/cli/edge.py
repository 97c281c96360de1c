"""The command that serves bundles on an edge server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import Json, show
from pipelines.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command()(edge)


def edge(
    bundles: Annotated[Path, typer.Argument(metavar="BUNDLES", help="A folder with numbered bundles.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free one.")] = 8510,
    bind: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    allow_public_bind: Annotated[
        bool, typer.Option("--allow-public-bind", help="Let other machines ask, by any host name; there are no keys.")
    ] = False,
    poll_seconds: Annotated[float, typer.Option(min=0, help="How often to look for a newer bundle; 0 is never.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Serve the newest bundle of a folder by REST, without TensorFlow."""
    from serving.edge.errors import EdgeError
    from serving.edge.server import EdgeServer, log_to_standard_error, wait_for_stop

    log_to_standard_error()
    try:
        server = EdgeServer(
            bundles, port=port, bind_address=bind, allow_public_bind=allow_public_bind, poll_seconds=poll_seconds
        )
    except (EdgeError, OSError) as error:
        raise BadInput(str(error)) from None
    with server:
        manifest = server.store.recommender.bundle.manifest
        result = {
            "url": server.url,
            "bundle": server.store.number,
            "model": manifest.model,
            "version": manifest.version,
            "variant": manifest.variant,
            "items": len(server.store.recommender),
        }
        lines = [
            f"bundle {result['bundle']} ({manifest.model} {manifest.version}, {manifest.variant}, "
            f"{result['items']:,} items) at {server.url}/v1/recommendations"
        ]
        show(result, lines, as_json=as_json)
        wait_for_stop()
