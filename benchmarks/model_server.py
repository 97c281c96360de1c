"""Requests a second of the model server, by REST and by gRPC, beside a FastAPI app that calls the Keras model itself.

A small MLP (16 numbers, two hidden layers of 32, 1 output), one row a request, 16 clients. Every server is a process
of its own on the machine that also makes the load; each is measured three times, in turn.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from benchmarks.load import Load, put_load

_ROUNDS, _SECONDS = 3, 4.0
_FEATURES, _HIDDEN = 16, 32
_BARS = {"REST": 8_000, "gRPC": 3_000}
_TIMES = 5  # as often as the FastAPI app, at least


def run() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # TensorFlow stays in processes that end, or that are measured.
        subprocess.run([sys.executable, "-m", "benchmarks.model_server", "write", str(folder)], check=True)
        rest, rpc, app = free_ports(3)
        flags = [f"--model_base_path={folder / 'models'}", "--model_name=mlp"]
        found: dict[str, list[Load]] = {"REST": [], "gRPC": [], "FastAPI": []}
        for _ in range(_ROUNDS):
            with model_server(folder / "log", rest, rpc, *flags):
                where = "/v1/models/mlp:predict"
                found["REST"].append(put_load("rest", f"127.0.0.1:{rest}", where, folder / "rest", _SECONDS))
                where = "/tensorflow.serving.PredictionService/Predict"
                found["gRPC"].append(put_load("grpc", f"127.0.0.1:{rpc}", where, folder / "grpc", _SECONDS))
            with _fastapi(folder, app):
                found["FastAPI"].append(put_load("rest", f"127.0.0.1:{app}", "/predict", folder / "rest", _SECONDS))
    medians = {name: statistics.median(load.per_second for load in loads) for name, loads in found.items()}
    print(f"{os.cpu_count()} cores, {_ROUNDS} rounds of {_SECONDS:.0f} s, median")
    print(f"{'':8}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}{'x FastAPI':>11}")
    for name, loads in found.items():
        p50, p99 = (statistics.median(getattr(load, key) for load in loads) for key in ("p50", "p99"))
        failed, ratio = sum(load.failed for load in loads), medians[name] / medians["FastAPI"]
        print(f"{name:8}{medians[name]:12,.0f}{p50:9.2f}{p99:9.2f}{failed:8}{ratio:11.1f}")
    missed = [
        name
        for name, bar in _BARS.items()
        if medians[name] < max(bar, _TIMES * medians["FastAPI"]) or any(load.failed for load in found[name])
    ]
    if missed:
        print(f"below its bar: {', '.join(missed)}")
    return 1 if missed else 0


@contextmanager
def model_server(log: Path, rest: int, rpc: int, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """`belfry model-server` with these flags, until the block ends."""
    command = [sys.executable, "-m", "serving.model_server", f"--rest_api_port={rest}", f"--port={rpc}", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait(f"http://127.0.0.1:{rest}/readyz", process, log)
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _fastapi(folder: Path, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.model_server", "fastapi", str(folder), str(port)]
    with (folder / "fastapi.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait(f"http://127.0.0.1:{port}/readyz", process, folder / "fastapi.log")
        yield
    finally:
        process.terminate()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        try:
            urlopen(url, timeout=1).close()
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError(f"a server did not start:\n{log.read_text(errors='replace')[-2000:]}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def write(folder: Path) -> None:
    """The Keras model, the same as version 1 of a SavedModel, and the body of a request."""
    import numpy as np
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    from towers.runtime import keras, seed_everything, tf

    seed_everything(1)
    given = keras.Input((_FEATURES,), name="x")
    hidden = keras.layers.Dense(_HIDDEN, "relu")(given)
    hidden = keras.layers.Dense(_HIDDEN, "relu")(hidden)
    model = keras.Model(given, keras.layers.Dense(1, "sigmoid", name="y")(hidden))
    model.save(folder / "model.keras")
    model.export(folder / "models" / "1", verbose=False)
    x = np.random.default_rng(1).normal(size=(1, _FEATURES)).astype(np.float32).round(3)
    (folder / "rest").write_text(json.dumps({"instances": [[float(f"{value:.3f}") for value in x[0]]]}))
    request = PredictRequest()
    request.model_spec.name = "mlp"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
    (folder / "grpc").write_bytes(request.SerializeToString())


def fastapi(folder: Path, port: int) -> None:
    """What one writes without a model server: the model is called for each request."""
    import fastapi
    import numpy as np
    import uvicorn

    from towers.runtime import keras

    model = keras.models.load_model(folder / "model.keras")
    app = fastapi.FastAPI()

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/predict")
    def predict(body: dict[str, list[list[float]]]) -> dict[str, list[list[float]]]:
        # Calling the model is several times faster for one row than `model.predict`.
        return {"predictions": np.asarray(model(np.asarray(body["instances"], np.float32))).tolist()}

    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        fastapi(Path(sys.argv[2]), int(sys.argv[3]))
