"""From a frozen graph to LiteRT or ONNX, in a process of its own: a converter that aborts takes nobody along."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.quantisation.freeze import Frozen, expand_log1p, shrink_masks
from pipelines.quantisation.runners import litert, onnx

VARIANTS = ("float32", "float16", "dynamic_range", "int8")
ONNX = "onnx"
_SAYS = "belfry"
# LiteRT aborts on the ranker in int8, or makes what it cannot load; and its 20 KB are worth no bits.
KEPT_FLOAT = {"int8": ("ranker",)}


def to_litert(frozen: Frozen, variant: str, representative: Sequence[dict[str, np.ndarray]] = ()) -> bytes:
    """A frozen function as a LiteRT flatbuffer, its inputs and outputs as they were.

    `float16` halves the weights, `dynamic_range` has them in int8 and computes the activations' ranges as it runs,
    `int8` has both in int8, with ranges from a representative set (Jacob et al. 2018).

    Args:
        representative: Inputs such as the model will see; for `int8`.
    """
    from towers.runtime import tf

    if variant == "int8":
        shrink_masks(frozen.graph)
    module = frozen.module()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.function], module)
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":
        converter.representative_dataset = lambda: iter(representative)
        # What has no int8 kernel, such as the arithmetic of times, stays in float.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def to_onnx(frozen: Frozen) -> bytes:
    """The same as an ONNX model in float32."""
    import tf2onnx

    # tf2onnx knows no Log1p.
    expand_log1p(frozen.graph)
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph, input_names=frozen.inputs, output_names=list(frozen.outputs.values()), opset=18
    )
    _rename(model.graph, {tensor: name for name, tensor in frozen.outputs.items()})
    return model.SerializeToString(deterministic=True)


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Inputs without TensorFlow's `:0`, and outputs by what they are called."""
    names = {each.name: each.name.split(":")[0] for each in graph.input} | names
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for each in (*graph.input, *graph.output):
        each.name = names.get(each.name, each.name)


def convert_all(frozen: Path, variants: Sequence[str], out: Path) -> dict[str, str | None]:
    """Every part below `frozen` as each of `variants`, into a folder of its name below `out`, by a fresh process.

    Returns:
        By variant why there is none, or None: the converter failed, crashed, or made what its runtime does not load.
    """
    reasons: dict[str, str | None] = {}
    while left := [variant for variant in variants if variant not in reasons]:
        command = [sys.executable, "-m", "pipelines.quantisation.convert", str(frozen), str(out), *left]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = [line.split("\t") for line in done.stdout.splitlines() if line.startswith(_SAYS)]
        reasons |= {variant: reason or None for _, what, variant, reason in said if what == "done"}
        started = [(variant, part) for _, what, variant, part in said if what == "start"]
        if done.returncode == 0:
            continue
        if not started or started[-1][0] in reasons:
            raise RuntimeError(f"the converter does not start:\n{done.stderr[-2000:]}")
        variant, part = started[-1]
        reasons[variant] = f"the converter crashed on the {part} ({_death(done.returncode)})."
    return reasons


def _death(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def representative_file(frozen: Path, part: str) -> Path:
    """Where `convert_all` looks for a part's representative inputs, (rows, ...) by name."""
    return frozen / f"{part}.npz"


def _main(frozen: Path, out: Path, variants: Sequence[str]) -> None:
    for variant in variants:
        reason = ""
        try:
            (out / variant).mkdir(exist_ok=True)
            for path in sorted(frozen.glob("*.pb")):
                print(_SAYS, "start", variant, path.stem, sep="\t", flush=True)
                _convert(path, variant, out / variant)
        except Exception as error:  # converters raise many kinds; what they say goes to the reader
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = f"the converter failed: {lines[0][:300] if lines else type(error).__name__}"
        print(_SAYS, "done", variant, reason.replace("\t", " "), sep="\t", flush=True)


def _convert(path: Path, variant: str, out: Path) -> None:
    """One part; a file that its runtime does not load fails here."""
    if variant == ONNX:
        (out / f"{path.stem}.onnx").write_bytes(to_onnx(Frozen.read(path)))
        onnx(out / f"{path.stem}.onnx")
        return
    rows: list[dict[str, np.ndarray]] = []
    representative = representative_file(path.parent, path.stem)
    if variant == "int8" and representative.exists():
        with np.load(representative, allow_pickle=False) as file:
            columns = dict(file)
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    kept = path.stem in KEPT_FLOAT.get(variant, ())
    (out / f"{path.stem}.tflite").write_bytes(to_litert(Frozen.read(path), "float32" if kept else variant, rows))
    litert(out / f"{path.stem}.tflite")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
