"""Loading and running one SavedModel; what the server must not import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.model_server import loaded
from serving.model_server.errors import Code, ServingError
from serving.model_server.loaded import LoadedModel

X: dict[str, np.ndarray] = {"x": np.array([[1, 2, 3]], np.float32)}


def test_sessions_still_make_callables_from_options(exported: Path) -> None:
    """The one private name the server relies on. Without it a request costs 20 times as much."""
    assert callable(tf.compat.v1.Session._make_callable_from_options)
    model = LoadedModel(exported / "numeric1")
    signature = model.signature("")
    assert signature is not None
    model.run(signature, X)
    assert [type(call).__name__ for call in signature.callables.values()] == ["_Callable"]
    model.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_threads_across_ops_do_not_change_the_answer(threads: int, exported: Path) -> None:
    model = LoadedModel(exported / "numeric1", inter_op_parallelism=threads, intra_op_parallelism=threads)
    signature = model.signature("serving_default")
    assert signature is not None
    assert model.run(signature, X)["y"].tolist() == [[14.0]]
    model.close()


def test_many_output_filters_keep_few_callables(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "_FILTERS_KEPT", 8)
    model = LoadedModel(exported / "several")
    signature = model.signature("")
    assert signature is not None
    inputs = {"count": np.array([1], np.int64), "pair": np.array([[1, 2]], np.float32)}
    names = signature.outputs
    for mask in range(1, 2 ** len(names)):
        chosen = [name for bit, name in enumerate(names) if mask >> bit & 1]
        assert list(model.run(signature, inputs, chosen)) == chosen
        assert len(signature.callables) <= loaded._FILTERS_KEPT
    model.close()


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, Code.NOT_FOUND), (b"not a graph", Code.NOT_FOUND)],
)
def test_a_folder_that_is_no_saved_model(content: bytes | None, code: Code, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ServingError) as failure:
        LoadedModel(tmp_path)
    assert failure.value.code is code
    assert str(tmp_path) in failure.value.message


def test_tags_that_are_not_there(exported: Path) -> None:
    with pytest.raises(ServingError, match="No graph tagged gpu,serve") as failure:
        LoadedModel(exported / "numeric1", tags=("gpu", "serve"))
    assert failure.value.code is Code.NOT_FOUND


_WALLS = """
import sys

walled = ["keras", "tf_keras", "tensorflow_recommenders", "towers", "pipelines"]
sys.modules.update(dict.fromkeys(walled))  # to Python, these are not installed
import serving.model_server
assert not {"tensorflow", "grpc", "numpy", "uvicorn"} & set(sys.modules), "importing the package must be instant"
import httpx
from serving.model_server import ModelServer, Options
with ModelServer(Options(model_base_path=sys.argv[1])) as server:
    answer = httpx.post(server.rest_url + "/v1/models/default:predict", json={"instances": ["the cat"]})
print(answer.json(), [name for name in sys.modules if name.split(".")[0] in walled and sys.modules[name]])

# Whoever needs them later in the same process still can.
for name in walled:
    del sys.modules[name]
assert "tensorflow_text" not in sys.modules
import tensorflow_text
from serving.model_server.text_ops import register_text_ops
register_text_ops()
print(tensorflow_text.WhitespaceTokenizer().tokenize(["a b"]).to_list())
"""


def test_the_server_needs_neither_keras_nor_the_other_floors(tmp_path: Path, publish: Callable[..., Path]) -> None:
    publish(tmp_path, 1, "tokens")
    done = subprocess.run(
        [sys.executable, "-c", _WALLS, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "{'predictions': [[0, 1, -1, -1]]} []\n[[b'a', b'b']]\n", done.stderr
