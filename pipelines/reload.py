"""Answers questions with a SavedModel, in a process that has nothing but TensorFlow and TF.Text, as a server has.

Run as a file: `python -I reload.py MODEL ASKED.npz ANSWERS.npz [scann]`, which names a package whose ops are allowed
beside those. The questions are arrays named `signature/input`, or `signature@number/input` where a signature is asked
several times, the answers arrays named likewise by output. It fails if the model needs Keras, Belfry, or an op that a
stock TensorFlow Serving does not link.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

# Registered everywhere, and of no use without the Python program that made the graph.
_IN_PYTHON = ("EagerPyFunc", "PyFunc", "PyFuncStateless")


def foreign_ops(model_folder: str) -> list[str]:
    """The ops of a SavedModel, by name, that TensorFlow does not know now, or knows in Python alone."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    from tensorflow.python.framework import op_def_registry

    saved = SavedModel.FromString((Path(model_folder) / "saved_model.pb").read_bytes())
    graphs = [each.graph_def for each in saved.meta_graphs]
    functions = {each.signature.name for graph in graphs for each in graph.library.function}
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for graph in graphs for each in graph.library.function for node in each.node_def]
    ops = {node.op for node in nodes} - functions
    return sorted(name for name in ops if op_def_registry.get(name) is None or name in _IN_PYTHON)


def _load_ops(package: str, pattern: str) -> None:
    """The ops without the package, which would import Keras."""
    import tensorflow as tf

    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    for library in sorted(Path(next(iter(folders or ["."]))).glob(pattern)):
        tf.load_op_library(str(library))


def answers_of(model: Any, asked: Any) -> dict[str, Any]:
    """Arrays by `signature/output`, of a loaded model and arrays by `signature/input`."""
    import tensorflow as tf

    questions: dict[str, dict[str, Any]] = {}
    for name, value in asked.items():
        question, key = name.split("/")
        questions.setdefault(question, {})[key] = tf.constant(value)
    answers = {}
    for question, inputs in sorted(questions.items()):
        for output, value in model.signatures[question.split("@")[0]](**inputs).items():
            found = value.numpy()
            answers[f"{question}/{output}"] = found.astype("S") if found.dtype == object else found
    return answers


def main(model_folder: str, asked_file: str, answers_file: str, *packages: str) -> None:
    # TensorFlow imports an installed Keras by itself. Hidden like this, every use of it fails.
    for hidden in ("keras", "tf_keras", "keras_hub", "towers", "pipelines", "serving"):
        sys.modules[hidden] = None  # type: ignore[assignment]
    import numpy as np
    import tensorflow as tf

    _load_ops("tensorflow_text", "python/*/_*.so")
    for package in packages:
        _load_ops(package, "*_ops/cc/_*.so")
    if foreign := foreign_ops(model_folder):
        raise SystemExit(f"ops that stock TensorFlow Serving cannot run: {', '.join(foreign)}")
    with np.load(asked_file, allow_pickle=False) as asked:
        answers = answers_of(tf.saved_model.load(model_folder), asked)
    np.savez(answers_file, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
