from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import Stopped
from pipelines.quantisation.freeze import SMALL_MASK, Frozen, check_frozen, expand_log1p, freeze, shrink_masks
from towers.runtime import tf


def traced(function: Any, **shapes: Any) -> Any:
    specs = {name: tf.TensorSpec(shape, tf.float32, name=name) for name, shape in shapes.items()}
    return tf.function(function, autograph=False).get_concrete_function(**specs)


@pytest.fixture
def function() -> Any:
    weight = tf.Variable([[2.0, 0.5], [1.0, -1.0]])

    def two(x: Any, y: Any) -> dict[str, Any]:
        masked = tf.where(y > 0, tf.math.log1p(tf.abs(x @ weight)), -1e9)
        return {"zeta": masked, "alpha": x @ weight + y}

    found = traced(two, x=(1, 2), y=(1, 2))
    found.weight = weight
    return found


def test_a_frozen_function_has_no_variables_and_answers_alike(function: Any, tmp_path: Path) -> None:
    inputs = {"x": tf.constant([[1.0, 2.0]]), "y": tf.constant([[1.0, 0.0]])}
    freeze(function).write(tmp_path / "two.pb")
    module = Frozen.read(tmp_path / "two.pb").module()
    found = module.function(**inputs)
    for name, value in function(**inputs).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
    assert not module.function.graph.variables


def test_a_graph_that_still_reads_variables_is_refused(function: Any) -> None:
    with pytest.raises(Stopped, match="still reads variables"):
        check_frozen(Frozen(function.graph.as_graph_def(), ["x:0", "y:0"], {}))


def test_large_masks_shrink_and_the_rest_stays(function: Any) -> None:
    inputs = {"x": tf.constant([[1.0, 2.0]]), "y": tf.constant([[1.0, 0.0]])}
    frozen = freeze(function)
    shrink_masks(frozen.graph)
    small = frozen.module().function(**inputs)
    assert small["zeta"][0, 1] == SMALL_MASK
    np.testing.assert_array_equal(small["alpha"], function(**inputs)["alpha"])


def test_log1p_is_two_operations(function: Any) -> None:
    inputs = {"x": tf.constant([[1.0, 2.0]]), "y": tf.constant([[1.0, 1.0]])}
    frozen = freeze(function)
    expand_log1p(frozen.graph)
    assert "Log1p" not in {node.op for node in frozen.graph.node}
    np.testing.assert_allclose(frozen.module().function(**inputs)["zeta"], function(**inputs)["zeta"], rtol=1e-6)
