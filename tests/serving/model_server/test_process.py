"""The server as a real process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

COMMAND = [sys.executable, "-m", "serving.model_server"]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_it_answers_and_drains_on_sigterm(
    tmp_path: Path, publish: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    publish(tmp_path / "m", 3, "numeric1")
    rest, rpc = free_ports(2)
    process = subprocess.Popen(
        [*COMMAND, f"--port={rpc}", "--rest_api_port", str(rest), "--model_name=m", f"--model_base_path={tmp_path}/m"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{rest}", timeout=20) as http:

            def ready() -> bool:
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                try:
                    return http.get("/readyz").status_code == 200
                except httpx.TransportError:
                    return False

            eventually(ready, 60)
            answer = http.post("/v1/models/m/versions/3:predict", json={"instances": [[1, 2, 3]]})
            assert answer.json() == {"predictions": [[14.0]]}
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "m"
            request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([[1, 2, 3]], np.float32)))
            with grpc.insecure_channel(f"127.0.0.1:{rpc}") as channel:
                response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=20)
            assert list(response.outputs["y"].float_val) == [14.0]

            body = json.dumps({"signature_name": "slow", "inputs": 1500})
            with socket.create_connection(("127.0.0.1", rest), timeout=30) as slow:
                head = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                slow.sendall((head + body).encode())
                # The loop has read the slow request once it answers one that was sent later.
                assert http.get("/healthz").status_code == 200
                process.send_signal(signal.SIGTERM)
                received = slow.makefile("rb").read()
            assert received.startswith(b"HTTP/1.1 200 "), received
            assert received.endswith(b'{"outputs":200.0}')
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out.splitlines() == [
        f"REST ready at http://127.0.0.1:{rest}/v1/models/m",
        f"gRPC ready at 127.0.0.1:{rpc}, model m",
    ]
    assert "Version 3 of m is unloaded." in err
    assert "Traceback" not in err


class Large(tf.Module):
    """64 MiB of variables."""

    def __init__(self) -> None:
        super().__init__()
        self.table = tf.Variable(tf.ones([1 << 20, 16]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "x")])
    def predict(self, x: Any) -> Any:
        return {"y": tf.gather(self.table, x)}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory in use from /proc")
def test_memory_returns_after_a_reload(tmp_path: Path, eventually: Callable[..., None]) -> None:
    large = Large()
    tf.saved_model.save(large, str(tmp_path / "large"), signatures=large.predict)
    base = tmp_path / "m"

    def publish_large(version: int) -> None:
        shutil.copytree(tmp_path / "large", base / ".draft", copy_function=os.link)
        (base / ".draft").rename(base / str(version))

    publish_large(1)
    rest = free_ports(1)[0]
    # Whoever asks for oneDNN keeps its memory.
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    process = subprocess.Popen(
        [*COMMAND, "--port=0", f"--rest_api_port={rest}", f"--model_base_path={base}"], env=environment
    )

    def states() -> dict[str, str]:
        try:
            answer = httpx.get(f"http://127.0.0.1:{rest}/v1/models/default")
        except httpx.TransportError:
            return {}
        return {one["version"]: one["state"] for one in answer.json().get("model_version_status", [])}

    def ask() -> None:
        url = f"http://127.0.0.1:{rest}/v1/models/default:predict"
        assert httpx.post(url, json={"instances": [1]}).status_code == 200

    def mebibytes() -> float:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    try:
        eventually(lambda: states() == {"1": "AVAILABLE"}, 60)
        ask()
        first = mebibytes()
        for version in (2, 3):
            publish_large(version)
            eventually(lambda v=version: states().get(str(v)) == "AVAILABLE" and states()[str(v - 1)] == "END")
            ask()
        assert mebibytes() < first + 32
        shutil.rmtree(base)
        base.mkdir()
        eventually(lambda: set(states().values()) == {"END"})
        eventually(lambda: mebibytes() < first - 40)
    finally:
        process.terminate()
        assert process.wait(30) == 0


def _run(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rest_port=8501", "--model_base_path=/m"], "did you mean --rest_api_port?"),
        (["--port=many", "--model_base_path=/m"], "--port: needs a whole number"),
        ([], "--model_base_path is missing"),
    ],
)
def test_a_bad_flag_is_one_sentence_and_exit_code_2(argv: list[str], words: str) -> None:
    done = _run(*argv, MODEL_BASE_PATH="")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_is_instant_and_exits_0() -> None:
    done = _run("--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert "--model_base_path" in done.stdout
    assert "tensorflow" not in done.stderr


def test_no_loadable_version_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"not a graph")
    done = _run(f"--model_base_path={tmp_path}", f"--port={free_ports(1)[0]}", "--max_num_load_retries=0")
    assert done.returncode == 1
    assert "Version 1 of model default failed to load" in done.stderr.splitlines()[-1]


def test_a_bad_config_file_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text("model_config_list { config { name: 1 } }")
    done = _run(f"--model_config_file={tmp_path}/models.config", f"--port={free_ports(1)[0]}")
    assert done.returncode == 1
    assert "Invalid protobuf file" in done.stderr.splitlines()[-1]
