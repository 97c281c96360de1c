"""One way to call a part, whichever runtime it runs in: a dict of arrays in, a dict of arrays out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pipelines.quantisation.quiet import quiet

Runner: TypeAlias = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def litert(path: Path) -> Runner:
    """A `.tflite` file in LiteRT's interpreter, on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        run = interpreter.get_signature_runner("serving_default")
    return lambda inputs: run(**inputs)


def onnx(path: Path) -> Runner:
    """An `.onnx` file in ONNX Runtime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = {each.name for each in session.get_inputs()}
    outputs = [each.name for each in session.get_outputs()]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        # An input that nothing depends on is no input of the converted graph.
        given = {name: value for name, value in inputs.items() if name in wanted}
        return dict(zip(outputs, session.run(outputs, given), strict=True))

    return run


def tensorflow(function: Any) -> Runner:
    """A concrete function in TensorFlow, on as many threads as it is allowed."""
    from towers.runtime import tf

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = function(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in found.items()}

    return run


def milliseconds(run: Runner, inputs: Sequence[dict[str, np.ndarray]], calls: int = 50) -> float:
    """Median time of a call, after a few to warm up."""
    for row in inputs[:3]:
        run(row)
    taken = []
    for call in range(calls):
        row = inputs[call % len(inputs)]
        start = time.perf_counter()
        run(row)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken) * 1000)
