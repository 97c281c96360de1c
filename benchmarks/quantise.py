"""Variants of an exported model for devices, and LiteRT, ONNX Runtime and TensorFlow side by side.

A small training of the shipped demo recipe on the newsroom, and of the news recipe on MIND below `BELFRY_DATA`. Each
runtime answers the same inputs in a process of its own, one call at a time on one thread.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import BELFRY, measure
from benchmarks.quality.sources import NotHere, source

_PARTS = ("user", "content", "ranker")
_RUNTIMES = ("TensorFlow", "ONNX Runtime", "LiteRT float32", "LiteRT dynamic_range")
_CALLS = 200


def run() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(BELFRY, "data", "import", "newsroom", "small", folder / "newsroom")
        _one(folder, "newsroom", "demo")
        try:
            mind = source("mind-mini") / "train"
        except NotHere as missing:
            print(missing)
            return
        measure(BELFRY, "data", "import", "mind", mind, folder / "mind")
        _one(folder, "mind", "news")


def _one(folder: Path, name: str, recipe: str) -> None:
    from pipelines.recipe import Recipe
    from recipes import shipped

    values = Recipe.load(shipped(recipe)).model_dump(mode="json")
    values["training"]["epochs"] = 2
    values["data"]["split"] = {"by": "time", "validation": 0.1, "test": 0.1}
    # JSON is YAML.
    (folder / f"{name}.yaml").write_text(json.dumps(values))
    measure(BELFRY, "train", folder / f"{name}.yaml", "--data", folder / name, "--out", folder / f"{name}-run")
    measure(BELFRY, "export", folder / f"{name}-run", "--to", folder / "models" / name)
    version, out = folder / "models" / name / "1", folder / f"{name}-edge"
    # Nothing is refused, so that everything is measured and the runtimes have what they are to run.
    asked = ("--variant", "all", "--keep", "0", "--keep-new", "0")
    print("\n" + measure(BELFRY, "quantise", version, "--out", out, *asked).output.strip(), flush=True)
    print(f"\n  median ms of a call, one thread  {'':6}" + "".join(f"{part:>10}" for part in _PARTS))
    for runtime in _RUNTIMES:
        taken = json.loads(
            measure(sys.executable, "-m", "benchmarks.quantise", runtime, version, out).output.strip().splitlines()[-1]
        )
        cells = "".join(f"{taken[part]:>10.3f}" if part in taken else f"{'-':>10}" for part in _PARTS)
        print(f"  {runtime:37}{cells}", flush=True)


def one(runtime: str, version: Path, out: Path) -> dict[str, float]:
    """Median milliseconds of a call of each part."""
    from pipelines.quantisation.runners import litert, milliseconds, onnx

    runners: dict[str, Any] = {}
    shapes = json.loads((out / "shapes.json").read_text()) if (out / "shapes.json").exists() else None
    if runtime == "TensorFlow":
        runners, shapes = _tensorflow(version)
        (out / "shapes.json").write_text(json.dumps(shapes))
    for part in _PARTS:
        if runtime == "ONNX Runtime" and (out / "onnx" / f"{part}.onnx").exists():
            runners[part] = onnx(out / "onnx" / f"{part}.onnx")
        path = out / runtime.removeprefix("LiteRT ") / f"{part}.tflite"
        if runtime.startswith("LiteRT") and path.exists():
            runners[part] = litert(path)
    assert shapes is not None
    return {part: milliseconds(run, [_inputs(shapes[part])], _CALLS) for part, run in runners.items()}


def _tensorflow(version: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from pipelines.quantisation.runners import tensorflow
    from towers.runtime import limit_threads, tf

    limit_threads(1)
    edge = tf.saved_model.load(str(version)).edge
    found = {"user": edge.user, "content": edge.content, "ranker": edge.rank}
    functions = {part: function for part, function in found.items() if function is not None}
    shapes = {
        part: {
            name: [spec.shape.as_list(), spec.dtype.name]
            for name, spec in function.structured_input_signature[1].items()
        }
        for part, function in functions.items()
    }
    return {part: tensorflow(function) for part, function in functions.items()}, shapes


def _inputs(shapes: dict[str, Any]) -> dict[str, np.ndarray]:
    """The same for every runtime: a full history, a text of all its tokens, distinct candidates."""
    rng, found = np.random.default_rng(0), {}
    for name, (shape, dtype) in sorted(shapes.items()):
        if dtype == "float32":
            found[name] = rng.uniform(0, 1, shape).astype(np.float32)
        elif name == "token_ids":
            found[name] = rng.integers(1000, 5000, shape).astype(np.int32)
        else:
            found[name] = np.ones(shape, dtype)
        if name in ("present", "known"):
            found[name] = np.ones(shape, np.float32)
    return found


if __name__ == "__main__":
    print(json.dumps(one(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
