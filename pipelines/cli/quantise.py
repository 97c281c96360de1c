"""The command that makes a model small enough for devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import Json, show, starting


def quantise(
    version: Annotated[Path, typer.Argument(metavar="VERSION", help="An exported version, such as models/news/1.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write: a folder a variant, ONNX files and a page.")],
    variant: Annotated[
        list[str] | None,
        typer.Option(help="float32, float16, dynamic_range, int8 or all; repeat it. By default dynamic_range."),
    ] = None,
    keep: Annotated[float, typer.Option(min=0, max=1, help="Least recall@10 against float32.")] = 0.99,
    keep_new: Annotated[
        float, typer.Option("--keep-new", min=0, max=1, help="The same among items that a device embeds itself.")
    ] = 0.95,
    data: Annotated[
        Path | None, typer.Option("--data", help="Whose histories to judge on; by default the training's.")
    ] = None,
    histories: Annotated[int, typer.Option(min=1, help="Real histories to judge on, at most.")] = 500,
    onnx: Annotated[bool, typer.Option(help="Write ONNX files too.")] = True,
    publish: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLES", help="Also make the bundle the next number there, for `belfry edge` to serve."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert an exported version to LiteRT and ONNX; what recommends something else is refused."""
    from pipelines.data.dataset import Dataset
    from pipelines.quantisation.convert import VARIANTS
    from pipelines.quantisation.quantise import REPORT

    with starting():
        from pipelines.quantisation.quantise import quantise as run_quantise

    chosen = list(dict.fromkeys(variant or ["dynamic_range"]))
    result = run_quantise(
        version,
        out,
        variants=VARIANTS if "all" in chosen else chosen,
        keep=keep,
        keep_new=keep_new,
        dataset=Dataset.open(data) if data else None,
        with_onnx=onnx,
        histories=histories,
        publish_to=publish,
    )
    lines = [*result.lines(), f"written to {out}, see {REPORT}"]
    if result["published"]:
        lines.append(f"published as {result['published']}: belfry edge {publish}")
    show(result, lines, as_json=as_json)
