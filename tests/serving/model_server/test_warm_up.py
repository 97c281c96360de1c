"""Recorded requests run before a version serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.model_server import ModelServer, Options, ServingError
from serving.model_server.errors import Code
from serving.model_server.loaded import LoadedModel
from serving.model_server.warm_up import MAX_RECORDS, warm_up


def predict_log(x: Any = ((1, 2, 3),), signature: str = "") -> PredictionLog:
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array(x, np.float32)))
    return log


def record(folder: Path, *logs: PredictionLog | bytes) -> None:
    (folder / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for log in logs:
            writer.write(log if isinstance(log, bytes) else log.SerializeToString())


@pytest.fixture
def model(tmp_path: Path, publish: Callable[..., Path]) -> Iterator[tuple[LoadedModel, Path]]:
    folder = publish(tmp_path, 1, "numeric1")
    loaded = LoadedModel(folder)
    yield loaded, folder
    loaded.close()


def test_no_file_is_no_warm_up(model: tuple[LoadedModel, Path]) -> None:
    assert warm_up(*model) == 0


def test_every_request_has_run(model: tuple[LoadedModel, Path]) -> None:
    loaded, folder = model
    record(folder, predict_log(), predict_log([[1, 1, 1], [2, 2, 2]]))
    runs: list[Any] = []
    run = loaded.run

    def recorded(signature: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        runs.append(inputs["x"].tolist())
        return run(signature, inputs, *rest, **more)

    loaded.run = recorded  # type: ignore[method-assign]
    assert warm_up(loaded, folder, iterations=2) == 2
    assert runs == [[[1, 2, 3]]] * 2 + [[[1, 1, 1], [2, 2, 2]]] * 2


def test_classify_regress_and_multi_inference_records(tmp_path: Path, publish: Callable[..., Path]) -> None:
    folder = publish(tmp_path, 1, "tf1")
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.extend([1, 2, 3])
    logs = [PredictionLog(), PredictionLog(), PredictionLog()]
    logs[0].classify_log.request.input.example_list.examples.add().CopyFrom(example)
    logs[1].regress_log.request.input.example_list.examples.add().CopyFrom(example)
    logs[1].regress_log.request.model_spec.signature_name = "regress"
    multi = logs[2].multi_inference_log.request
    multi.input.example_list.examples.add().CopyFrom(example)
    multi.tasks.add(method_name="tensorflow/serving/classify")
    record(folder, *logs)
    loaded = LoadedModel(folder)
    assert warm_up(loaded, folder) == 3
    loaded.close()


@pytest.mark.parametrize(
    ("logs", "code", "words"),
    [
        ([predict_log(signature="s")], Code.FAILED_PRECONDITION, 'request 1 of .* failed: Serving signature key "s"'),
        ([predict_log(), predict_log([[1, 2]])], Code.INVALID_ARGUMENT, "request 2 of .* Matrix size-incompatible"),
        ([b"not a log"], Code.INVALID_ARGUMENT, "Failed to parse warmup record"),
        ([PredictionLog()], Code.UNIMPLEMENTED, "Unsupported log_type"),
        ([predict_log()] * (MAX_RECORDS + 1), Code.INVALID_ARGUMENT, r"exceeds the maximum \(1000\)"),
    ],
    ids=["signature", "shape", "no log", "empty log", "too many"],
)
def test_a_file_that_cannot_be_replayed(
    logs: list[Any], code: Code, words: str, model: tuple[LoadedModel, Path]
) -> None:
    loaded, folder = model
    record(folder, *logs)
    with pytest.raises(ServingError, match=words) as failure:
        warm_up(loaded, folder)
    assert failure.value.code is code


@pytest.mark.parametrize("rest", [b"no record", b"\0" * 40])
@pytest.mark.parametrize("records", [0, 1])
def test_a_file_that_does_not_end_with_a_record(records: int, rest: bytes, model: tuple[LoadedModel, Path]) -> None:
    """Fewer bytes than a record's head looked like the end of the file."""
    loaded, folder = model
    record(folder, *[predict_log()] * records)
    with (folder / "assets.extra" / "tf_serving_warmup_requests").open("ab") as file:
        file.write(rest)
    with pytest.raises(ServingError, match="verify your warmup data") as failure:
        warm_up(loaded, folder)
    assert failure.value.code is Code.DATA_LOSS


def test_as_many_as_allowed(model: tuple[LoadedModel, Path]) -> None:
    loaded, folder = model
    record(folder, *[predict_log()] * MAX_RECORDS)
    assert warm_up(loaded, folder) == MAX_RECORDS


def test_a_bad_file_fails_the_load_unless_warm_up_is_off(
    tmp_path: Path, publish: Callable[..., Path], connect: Any
) -> None:
    folder = publish(tmp_path, 1, "numeric1")
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"not a TFRecord at all")
    with pytest.raises(ServingError, match="Please verify your warmup data"):
        ModelServer(Options(model_base_path=tmp_path, max_load_retries=0)).start()
    with ModelServer(Options(model_base_path=tmp_path, enable_model_warmup=False)) as server:
        assert connect(server).rows([[1, 2, 3]]) == [[14.0]]


def test_a_version_with_a_bad_file_never_replaces_a_good_one(
    tmp_path: Path, publish: Callable[..., Path], connect: Any, eventually: Callable[..., None], exported: Path
) -> None:
    publish(tmp_path, 1, "numeric1")
    with ModelServer(Options(model_base_path=tmp_path, max_load_retries=0, poll_wait_seconds=0.05)) as server:
        client = connect(server)
        draft = publish(tmp_path / "draft", 2, "numeric2")
        record(draft, predict_log(signature="s"))
        draft.rename(tmp_path / "2")
        eventually(lambda: client.states() == {2: "END", 1: "AVAILABLE"})
        assert client.rows([[1, 2, 3]]) == [[14.0]]
