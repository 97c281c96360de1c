"""Real SavedModels and real servers on loopback for every test below."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.model_server import ModelServer, Options

WORDS = ["the", "cat", "sat"]


class Numeric(tf.Module):
    """y = scale * (x @ w), and an echo signature for every dtype that requests carry."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = tf.Variable(scale)
        self.w = tf.constant([[1.0], [2.0], [3.0]])

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def predict(self, x: Any) -> Any:
        return {"y": self.scale * (x @ self.w)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, "rounds")])
    def slow(self, rounds: Any) -> Any:
        square = tf.eye(200)
        for _ in tf.range(rounds):
            square = tf.matmul(square, tf.eye(200))
        return {"trace": tf.linalg.trace(square)}


class Shout(tf.Module):
    """Strings in; strings and numbers out, batch first."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def predict(self, text: Any) -> Any:
        return {"loud": tf.strings.upper(text), "length": tf.cast(tf.strings.length(text), tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def raw(self, text: Any) -> Any:
        return {"same_bytes": text}


class Several(tf.Module):
    """Two inputs, outputs of every rank and kind."""

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int64, "count"), tf.TensorSpec([None, 2], tf.float32, "pair")]
    )
    def predict(self, count: Any, pair: Any) -> Any:
        return {
            "doubled": count * 2,
            "swapped": pair[:, ::-1],
            "positive": count > 0,
            "label": tf.strings.as_string(count),
            "raw_bytes": tf.strings.as_string(count),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def total(self, x: Any) -> Any:
        return {"sum": tf.reduce_sum(x), "inverse": 1.0 / x}


class Tokens(tf.Module):
    """A TF.Text tokeniser and a lookup table filled from an asset."""

    def __init__(self, vocabulary: str) -> None:
        super().__init__()
        self.vocabulary = tf.saved_model.Asset(vocabulary)
        self.tokenizer = tensorflow_text.WhitespaceTokenizer()
        initializer = tf.lookup.TextFileInitializer(
            self.vocabulary.asset_path,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.table = tf.lookup.StaticHashTable(initializer, default_value=-1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def predict(self, text: Any) -> Any:
        tokens = self.tokenizer.tokenize(text).to_tensor("", shape=[None, 4])
        return {"ids": self.table.lookup(tokens)}


def export_tf1(folder: Path, vocabulary: Path) -> None:
    """A TF1 graph of tf.Examples that classifies and regresses, with variables, an asset and an op to initialise it.

    With x (3 numbers) and word: scores [sum(w * x), index of word], classes ["sum", "word"], and their sum.
    """
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        serialised = v1.placeholder(tf.string, [None], "tf_example")
        features = {
            "x": tf.io.FixedLenFeature([3], tf.float32),
            "word": tf.io.FixedLenFeature([], tf.string, default_value=""),
        }
        parsed = v1.parse_example(serialised, features)
        w = v1.get_variable("w", initializer=[1.0, 2.0, 3.0], use_resource=False)
        asset = tf.constant(str(vocabulary))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
        initializer = tf.lookup.TextFileInitializer(
            asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        table = tf.lookup.StaticHashTable(initializer, default_value=-1)
        total = tf.reduce_sum(w * parsed["x"], axis=1)
        index = tf.cast(table.lookup(parsed["word"]), tf.float32)
        scores = tf.stack([total, index], axis=1, name="scores")
        classes = tf.tile(tf.constant([["sum", "word"]]), [tf.shape(scores)[0], 1])
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        info = v1.saved_model.build_tensor_info
        signatures = {
            "serving_default": v1.saved_model.classification_signature_def(serialised, classes, scores),
            "labels": v1.saved_model.classification_signature_def(serialised, classes, None),
            "regress": v1.saved_model.regression_signature_def(serialised, total + index),
            "wide": v1.saved_model.build_signature_def(
                {"inputs": info(serialised)}, {"outputs": info(scores)}, "tensorflow/serving/regress"
            ),
            "raw": v1.saved_model.predict_signature_def({"x": parsed["x"]}, {"total": total}),
        }
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map=signatures,
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()


class Scorer(tf.Module):
    """What TF2 exports: a classification by its names alone, its method is predict."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def scores(self, inputs: Any) -> Any:
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([3], tf.float32)})["x"]
        return {"scores": x * 2.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def number(self, inputs: Any) -> Any:
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([3], tf.float32)})["x"]
        return {"outputs": tf.reduce_sum(x, axis=1, keepdims=True)}


ECHOED = ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64"]
ECHOED += ["uint8", "uint16", "uint32", "uint64", "bool", "string", "complex64", "complex128"]


def _export(module: tf.Module, folder: Path, **signatures: Any) -> None:
    tf.saved_model.save(module, str(folder), signatures=signatures)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of SavedModels, not yet numbered: numeric1 to 3, shout, several, tokens, tf1, scorer, echo."""
    root = tmp_path_factory.mktemp("exported")
    for scale in (1, 2, 3):
        numeric = Numeric(float(scale))
        _export(numeric, root / f"numeric{scale}", serving_default=numeric.predict, slow=numeric.slow)
    shout = Shout()
    _export(shout, root / "shout", serving_default=shout.predict, raw=shout.raw)
    several = Several()
    _export(several, root / "several", serving_default=several.predict, total=several.total)
    vocabulary = root / "words.txt"
    vocabulary.write_text("\n".join(WORDS))
    tokens = Tokens(str(vocabulary))
    _export(tokens, root / "tokens", serving_default=tokens.predict)
    export_tf1(root / "tf1", vocabulary)
    scorer = Scorer()
    _export(scorer, root / "scorer", serving_default=scorer.scores, number=scorer.number)
    vocabulary.unlink()  # the asset must come from the SavedModel

    echo = tf.Module()

    def identity(dtype: tf.DType) -> Any:
        @tf.function(input_signature=[tf.TensorSpec(None, dtype, "x")])
        def same(x: Any) -> Any:
            return {"y": tf.identity(x)}

        return same

    signatures = {name: identity(tf.as_dtype(name)) for name in ECHOED}
    echo.functions = list(signatures.values())
    _export(echo, root / "echo", **signatures)
    return root


@pytest.fixture
def publish(exported: Path) -> Callable[[Path, int | str, str], Path]:
    """Put a SavedModel under a base path as a version, all at once."""

    def put(base: Path, version: int | str, source: str) -> Path:
        return _publish(exported, base, version, source)

    return put


def _publish(exported: Path, base: Path, version: int | str, source: str) -> Path:
    base.mkdir(parents=True, exist_ok=True)
    draft = base / f".{version}.draft"
    shutil.copytree(exported / source, draft)
    return draft.rename(base / str(version))


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait until a condition holds; fail at the deadline."""

    def wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            pause.wait(0.02)

    return wait


@dataclass
class Client:
    """Both ways to ask one server."""

    server: ModelServer
    http: httpx.Client
    prediction: prediction_service_pb2_grpc.PredictionServiceStub
    models: model_service_pb2_grpc.ModelServiceStub
    name: str

    def post(self, body: Any, path: str = "", **headers: str) -> httpx.Response:
        url = f"/v1/models/{self.name}{path}:predict"
        if isinstance(body, bytes | str):
            return self.http.post(url, content=body, headers=headers)
        return self.http.post(url, json=body, headers=headers)

    def rows(self, rows: list[Any], signature: str = "serving_default") -> list[Any]:
        answer = self.post({"signature_name": signature, "instances": rows})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["predictions"])

    def columns(self, inputs: Any, signature: str = "serving_default") -> Any:
        answer = self.post({"signature_name": signature, "inputs": inputs})
        assert answer.status_code == 200, answer.text
        return answer.json()["outputs"]

    def request(
        self, inputs: dict[str, Any], signature: str = "", version: int | None = None, only: tuple[str, ...] = ()
    ) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest(output_filter=only)
        request.model_spec.name = self.name
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        for alias, value in inputs.items():
            request.inputs[alias].CopyFrom(_proto(value))
        return request

    def predict(self, inputs: dict[str, Any], signature: str = "", **more: Any) -> dict[str, Any]:
        response = self.prediction.Predict(self.request(inputs, signature, **more), timeout=20)
        return {alias: tf.make_ndarray(proto) for alias, proto in response.outputs.items()}

    def states(self) -> dict[int, str]:
        answer = self.http.get(f"/v1/models/{self.name}")
        return {int(one["version"]): one["state"] for one in answer.json().get("model_version_status", [])}


def _proto(value: Any) -> Any:
    return value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value)


@pytest.fixture(scope="session")
def connect() -> Iterator[Callable[[ModelServer], Client]]:
    """Clients of a server, closed at the end."""
    opened: list[Any] = []

    def open_client(server: ModelServer) -> Client:
        http = httpx.Client(base_url=server.rest_url or "", timeout=20)
        channel = grpc.insecure_channel(server.grpc_target or "")
        opened.extend([http, channel])
        return Client(
            server,
            http,
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
            server.options.model_name,
        )

    yield open_client
    for one in opened:
        one.close()


@pytest.fixture(scope="session")
def serve(
    exported: Path, tmp_path_factory: pytest.TempPathFactory, connect: Callable[[ModelServer], Client]
) -> Iterator[Callable[[str], Client]]:
    """A client of a server for one of the exported models, started at its first use."""
    clients: dict[str, Client] = {}

    def get(source: str) -> Client:
        if source not in clients:
            base = tmp_path_factory.mktemp(source)
            _publish(exported, base, 1, source)
            server = ModelServer(Options(model_name=source, model_base_path=base, max_load_retries=0))
            server.start()
            clients[source] = connect(server)
        return clients[source]

    yield get
    for client in clients.values():
        client.server.stop()


@pytest.fixture(scope="session")
def direct(exported: Path) -> Callable[..., dict[str, Any]]:
    """What `tf.saved_model.load` computes: the reference."""
    loaded: dict[str, Any] = {}

    def call(source: str, signature: str = "serving_default", **inputs: Any) -> dict[str, Any]:
        if source not in loaded:
            loaded[source] = tf.saved_model.load(str(exported / source))
        outputs = loaded[source].signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        return {alias: tensor.numpy() for alias, tensor in outputs.items()}

    return call


@pytest.fixture(scope="session")
def same() -> Callable[[Any, Any], bool]:
    """Equal values, NaN equal to NaN, nested lists and arrays alike."""

    def equal(left: Any, right: Any) -> bool:
        a, b = np.asarray(left), np.asarray(right)
        if a.dtype.kind in "fc" or b.dtype.kind in "fc":
            return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-6, equal_nan=True))
        return a.shape == b.shape and bool((a == b).all())

    return equal
