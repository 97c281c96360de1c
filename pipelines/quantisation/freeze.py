"""Functions without variables, as files that every converter reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.artefacts import read_json, write_json
from pipelines.errors import Stopped
from pipelines.quantisation.quiet import quiet

PARTS = ("user", "content", "ranker")
# What an int8 graph can tell from any logit of attention, and what its 256 steps can hold beside the logits.
SMALL_MASK = -100.0
_MASK_BELOW = -1e6
_VARIABLES = {"VarHandleOp", "ReadVariableOp", "VariableV2", "ResourceGather", "Placeholder"}


@dataclass(frozen=True)
class Frozen:
    """A `GraphDef` without variables, and the names of its tensors; an input is called as its operation is."""

    graph: Any
    inputs: list[str]
    outputs: dict[str, str]

    def write(self, path: Path) -> None:
        path.write_bytes(self.graph.SerializeToString(deterministic=True))
        write_json(path.with_suffix(".json"), {"inputs": self.inputs, "outputs": self.outputs})

    @classmethod
    def read(cls, path: Path) -> Frozen:
        from towers.runtime import tf

        names = read_json(path.with_suffix(".json"))
        return cls(tf.compat.v1.GraphDef.FromString(path.read_bytes()), names["inputs"], names["outputs"])

    def module(self) -> Any:
        """A `tf.Module` whose `function` is the graph as a concrete function."""
        from towers.runtime import tf

        whole = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(self.graph, name=""), [])
        find = whole.graph.as_graph_element
        inputs = {name.split(":")[0]: find(name) for name in self.inputs}
        module = tf.Module()
        module.function = whole.prune(inputs, {name: find(tensor) for name, tensor in self.outputs.items()})
        return module


def freeze(function: Any) -> Frozen:
    """A concrete function with its weights as constants.

    Raises:
        Stopped: Something is left that has to be read from a variable; a converter would take it for zeros or for NaN.
    """
    from tensorflow.python.framework.convert_to_constants import (  # noqa: TID251
        convert_variables_to_constants_v2,
    )

    with quiet():
        found = convert_variables_to_constants_v2(function)
    names = sorted(function.structured_outputs)
    frozen = Frozen(
        found.graph.as_graph_def(),
        [tensor.name for tensor in found.inputs],
        dict(zip(names, (tensor.name for tensor in found.outputs), strict=True)),
    )
    check_frozen(frozen)
    return frozen


def check_frozen(frozen: Frozen) -> None:
    """Raises `Stopped` where a graph reads anything but its inputs and constants."""
    graph, names = frozen.graph, {name.split(":")[0] for name in frozen.inputs}
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    left = sorted(node.name for node in nodes if node.op in _VARIABLES and node.name not in names)
    if left:
        raise Stopped(f"the graph still reads variables after freezing ({left[0]}), and would convert to nonsense.")


def shrink_masks(graph: Any) -> None:
    """Put `SMALL_MASK` where a graph has one such as -1e9, which takes all of an int8 tensor's range for itself."""
    from towers.runtime import tf

    for node in graph.node:
        if node.op != "Const" or node.attr["dtype"].type != tf.float32.as_datatype_enum:
            continue
        value = tf.make_ndarray(node.attr["value"].tensor)
        if value.ndim == 0 and value < _MASK_BELOW:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(SMALL_MASK, tf.float32))


def expand_log1p(graph: Any) -> None:
    """log(1 + x) as two operations, for converters that do not know it."""
    from towers.runtime import tf

    for node in list(graph.node):
        if node.op != "Log1p":
            continue
        one, plus = graph.node.add(), graph.node.add()
        one.name, one.op = f"{node.name}/one", "Const"
        one.attr["dtype"].type = tf.float32.as_datatype_enum
        one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0, tf.float32))
        plus.name, plus.op = f"{node.name}/plus", "AddV2"
        plus.input.extend([node.input[0], one.name])
        plus.attr["T"].type = tf.float32.as_datatype_enum
        node.op, node.input[0] = "Log", plus.name
