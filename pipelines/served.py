"""Drives a model server: starts it as a process of its own, and asks it by REST and by gRPC."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_START_SECONDS = 120.0
_ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Served:
    """A running model server on loopback."""

    model: str
    rest_port: int
    grpc_port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}/v1/models/{self.model}"

    def ask_rest(self, signature: str, instance: dict[str, Any]) -> dict[str, Any]:
        """One row through `:predict`."""
        return self.ask_rest_rows(signature, [instance])[0]

    def ask_rest_rows(self, signature: str, instances: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows through `:predict`, whose lists are of one length."""
        body = json.dumps({"signature_name": signature, "instances": list(instances)}).encode()
        request = urllib.request.Request(f"{self.url}:predict", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            rows: list[dict[str, Any]] = json.loads(answer.read())["predictions"]
        return rows

    def ask_grpc(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch through `PredictionService.Predict`."""
        import grpc
        from tensorflow_serving.apis.predict_pb2 import PredictRequest
        from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

        from towers.runtime import tf

        request = PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self.model, signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            answer = PredictionServiceStub(channel).Predict(request, timeout=_ANSWER_SECONDS)
        return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}


def one_row(instance: dict[str, Any]) -> dict[str, np.ndarray]:
    """An instance as `ask_rest` takes it, as the batch of one row that `ask_grpc` takes."""
    return as_batch([instance])


def as_batch(instances: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Instances as `ask_rest_rows` takes them, as the batch that `ask_grpc` takes."""

    def dtype(name: str) -> type:
        if name.endswith("ids") or name in ("language", "device"):
            return object
        return np.int64 if name == "time_seconds" else np.float32

    return {name: np.array([each[name] for each in instances], dtype(name)) for name in instances[0]}


def padded(instances: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The instances with each list as long as its longest, which takes "" or 0."""
    longest = {
        name: max(len(each[name]) for each in instances)
        for name, value in instances[0].items()
        if isinstance(value, list)
    }

    def filled(name: str, value: Any) -> Any:
        if name not in longest:
            return value
        return [*value, *["" if name.endswith("ids") else 0.0] * (longest[name] - len(value))]

    return [{name: filled(name, value) for name, value in each.items()} for each in instances]


@contextlib.contextmanager
def model_server(folder: Path, log: Path) -> Iterator[Served]:
    """Serve the newest version in `folder` on free loopback ports until the block ends.

    Raises:
        RuntimeError: It did not come up; the message holds the end of its log.
    """
    models = [f"--model_name={folder.name}", f"--model_base_path={folder.resolve()}", "--max_num_load_retries=0"]
    with _server(folder.name, models, log) as served:
        yield served


@contextlib.contextmanager
def configured_server(config: Path, model: str, log: Path) -> Iterator[Served]:
    """Serve what a registry's `models.config` lists, and follow its changes, until the block ends.

    Raises:
        RuntimeError: It did not come up; the message holds the end of its log.
    """
    models = [f"--model_config_file={config.resolve()}", "--model_config_file_poll_wait_seconds=1"]
    with _server(model, [*models, "--allow_version_labels_for_unavailable_models"], log) as served:
        yield served


@contextlib.contextmanager
def _server(model: str, models: Sequence[str], log: Path) -> Iterator[Served]:
    rest_port, grpc_port = _free_ports(2)
    ports = (f"--rest_api_port={rest_port}", f"--port={grpc_port}")
    command = [sys.executable, "-m", "serving.model_server", *models, *ports]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(process, rest_port, log)
        yield Served(model, rest_port, grpc_port, process)
    finally:
        process.terminate()
        try:
            process.wait(_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1.0):
                return
        time.sleep(0.2)
    raise RuntimeError(f"the model server did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
