from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from pipelines.quantisation.convert import VARIANTS, convert_all, to_litert, to_onnx
from pipelines.quantisation.freeze import Frozen, freeze
from pipelines.quantisation.runners import litert, onnx
from towers.behaviour import BehaviourTower
from towers.edge import EdgeFunctions
from towers.history_encoders import EncoderName
from towers.runtime import keras, tf

H, D = 5, 8


def inputs(rows: int) -> list[dict[str, np.ndarray]]:
    rng, found = np.random.default_rng(2), []
    for row in range(rows):
        present = (np.arange(H)[None] < row % (H + 1)).astype(np.float32)
        each = {"history": rng.normal(size=(1, H, D)).astype(np.float32) * present[..., None], "present": present}
        for name, most in (("age_seconds", 1e5), ("dwell_seconds", 200.0), ("scroll_depth", 1.0)):
            each[name] = rng.uniform(0, most, (1, H)).astype(np.float32) * present
        each |= {name: np.array([row % 3], np.int32) for name in ("language", "device")}
        found.append(each | {"time_seconds": np.array([1_700_000_000 + 4000 * row], np.int64)})
    return found


@pytest.fixture(scope="module", params=get_args(EncoderName))
def tower(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A query tower whose every weight counts, and its frozen function."""
    keras.utils.set_random_seed(4)
    behaviour = BehaviourTower(encoder=request.param, units=4, languages=2, devices=2, time_of_day=True)
    behaviour.build({"history": (None, H, D)})
    for weight in behaviour.weights:
        if "log_scale" not in weight.path and "gamma" not in weight.path:
            weight.assign(keras.random.normal(weight.shape, stddev=0.3))

    class Content:
        width = D

        def __call__(self, given: dict[str, Any], training: bool = False) -> Any:
            return tf.cast(given["category"], tf.float32)[:, None] * tf.ones([1, D])

    content: Any = Content()
    edge = EdgeFunctions(content, behaviour, None, history=H, tags_kept=2)
    path = tmp_path_factory.mktemp("frozen") / "user.pb"
    freeze(edge.user).write(path)
    return edge, path


def cosines(edge: Any, run: Any) -> list[float]:
    found = []
    for each in inputs(12):
        expected = edge.user(**{name: tf.constant(value) for name, value in each.items()})["embedding"].numpy()
        got = run(each)["embedding"]
        assert np.isfinite(got).all()
        found.append(float(np.vdot(got, expected) / np.linalg.norm(got) / np.linalg.norm(expected)))
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_history_encoder_converts_in_every_variant(variant: str, tower: tuple[Any, Path], tmp_path: Path) -> None:
    edge, frozen = tower
    (tmp_path / "user.tflite").write_bytes(to_litert(Frozen.read(frozen), variant, inputs(40)))
    least = {"float32": 1 - 1e-6, "float16": 1 - 1e-4, "dynamic_range": 0.999, "int8": 0.9}[variant]
    assert min(cosines(edge, litert(tmp_path / "user.tflite"))) > least


def test_every_history_encoder_converts_to_onnx(tower: tuple[Any, Path], tmp_path: Path) -> None:
    edge, frozen = tower
    (tmp_path / "user.onnx").write_bytes(to_onnx(Frozen.read(frozen)))
    assert min(cosines(edge, onnx(tmp_path / "user.onnx"))) > 1 - 1e-6


def test_a_converter_that_fails_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    frozen = tmp_path / "frozen"
    frozen.mkdir()
    twice = tf.function(lambda x: {"y": 2 * x}).get_concrete_function(x=tf.TensorSpec([1, 2], tf.float32, name="x"))
    freeze(twice).write(frozen / "user.pb")
    (frozen / "user.npz").write_bytes(b"no array")
    found = convert_all(frozen, ["int8", "float32"], tmp_path)
    assert str(found["int8"]).startswith("the converter failed: ")
    assert found["float32"] is None
    assert (tmp_path / "float32" / "user.tflite").exists()
