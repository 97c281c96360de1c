"""Nonsense for both ports of a model server: no 5xx, no crash, no memory lost, and it still answers.

`python -m benchmarks fuzz --minutes 5`. The same seed makes the same nonsense, in each of four threads: bytes that are
no HTTP, requests with bytes changed, left out or doubled, connections that end halfway or never say anything, JSON that
no model asked for, protobuf messages of random bytes or with a few changed, bytes that are no HTTP/2. Half of it is
requests in the right form with odd values, which reach the model: see `benchmarks.fuzz_requests`.

Reload requests are left out: one that is well-formed by chance would rightly unload the model.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_THREADS = 4
_WAIT = 20.0  # seconds for an answer
_GROWTH = 1.05  # of the memory after a quarter of the time
_SERVICE = "/tensorflow.serving.PredictionService/"
_METHODS = ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")


@dataclass
class Report:
    """What was sent, what came back, and what should not have."""

    sent: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def attack(rest: int, rpc: int, model: str, message: bytes, seconds: float, seed: int = 0) -> Report:
    """Send nonsense to both ports of a server on this machine.

    Args:
        message: A PredictRequest that the model can answer, which is where the nonsense starts from.
    """
    import benchmarks.fuzz_requests  # noqa: F401  # here: four threads that import protobuf's modules at once may fail

    report = Report()
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(
            target=_Fuzzer(rest, rpc, model, message, random.Random(seed + number), report).run, args=(end,)
        )
        for number in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return report


class _Fuzzer:
    def __init__(self, rest: int, rpc: int, model: str, message: bytes, rng: random.Random, report: Report) -> None:
        self._rest, self._rpc, self._model, self._message = rest, rpc, model, message
        self._rng, self._report = rng, report

    def run(self, end: float) -> None:
        import grpc

        with grpc.insecure_channel(f"127.0.0.1:{self._rpc}") as channel:
            kinds: list[Callable[[], None]] = [
                self._noise,
                self._broken_http,
                self._broken_http,
                self._silence,
                self._json,
                self._json,
                self._json,
                lambda: self._protobuf(channel),
                lambda: self._protobuf(channel),
                self._no_http2,
                *[self._odd_json, lambda: self._odd_protobuf(channel)] * 5,
            ]
            while time.monotonic() < end:
                self._rng.choice(kinds)()

    def _noise(self) -> None:
        self._over_http("noise", self._rng.randbytes(self._rng.randrange(1, 400)))

    def _broken_http(self) -> None:
        rng = self._rng
        body = json.dumps(self._document()).encode("utf-8", "surrogatepass")
        headers = [
            *(b"Host: x", b"Content-Length: %d" % rng.choice([len(body), len(body), len(body) + 5, 0, 10**12])),
            *(b"Transfer-Encoding: chunked", b"Connection: close", b"Expect: 100-continue", b"Content-Encoding: gzip"),
            *(b"Upgrade: h2c", b"Connection: Upgrade", b"X: " + rng.randbytes(9).replace(b"\n", b"")),
        ]
        chosen = rng.sample(headers, rng.randrange(len(headers)))
        verb = rng.choice([b"GET", b"POST", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"nonsense"])
        start = b"%b %b HTTP/1.%d" % (verb, self._path().encode("utf-8", "replace"), rng.randrange(3))
        text = b"\r\n".join([start, *chosen, b"", b""]) + body
        self._over_http("broken HTTP", self._mutated(text) if rng.random() < 0.7 else text)

    def _silence(self) -> None:
        self._report.sent["silence"] += 1
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._rest), _WAIT) as one:
            if self._rng.random() < 0.5:
                one.shutdown(socket.SHUT_WR)
                one.recv(1)

    def _json(self) -> None:
        body = json.dumps(self._document()).encode("utf-8", "surrogatepass")
        if self._rng.random() < 0.3:
            body = self._mutated(body)
        head = f"POST {self._path()} HTTP/1.1\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self._over_http("JSON", head.encode("utf-8", "replace") + body, whole=True)

    def _protobuf(self, channel: Any) -> None:
        from benchmarks.fuzz_requests import contradicting

        rng = self._rng
        made = rng.random()
        if made < 0.6:
            message = contradicting(rng, self._message)
        else:
            message = self._mutated(self._message) if made < 0.9 else rng.randbytes(rng.randrange(60))
        self._over_grpc("protobuf", channel, rng.choice(_METHODS), message)

    def _odd_json(self) -> None:
        from benchmarks.fuzz_requests import odd_json

        path, body, zipped = odd_json(self._rng, self._model)
        coding = "Content-Encoding: gzip\r\n" if zipped else ""
        head = f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n{coding}Connection: close\r\n\r\n"
        self._over_http("odd JSON", head.encode() + body, whole=True)

    def _odd_protobuf(self, channel: Any) -> None:
        from benchmarks.fuzz_requests import odd_protobuf

        self._over_grpc("odd protobuf", channel, *odd_protobuf(self._rng, self._model))

    def _over_grpc(self, kind: str, channel: Any, method: str, message: bytes) -> None:
        import grpc

        self._report.sent[kind] += 1
        try:
            channel.unary_unary(_SERVICE + method)(message, timeout=_WAIT)
            self._report.answers["gRPC OK"] += 1
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            self._report.answers[f"gRPC {code.name}"] += 1
            fault = code.name in ("UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS")
            if fault:
                self._report.wrong.append(f"gRPC {code.name} {details[:200]} for {method} {message[:200]!r}")

    def _no_http2(self) -> None:
        self._report.sent["no HTTP/2"] += 1
        start = self._rng.choice([b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5)])
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._rpc), _WAIT) as one:
            one.sendall(start + self._rng.randbytes(self._rng.randrange(1, 300)))
            if self._rng.random() < 0.5:
                one.shutdown(socket.SHUT_WR)

    def _over_http(self, kind: str, text: bytes, *, whole: bool = False) -> None:
        self._report.sent[kind] += 1
        received = b""
        try:
            with socket.create_connection(("127.0.0.1", self._rest), _WAIT) as one:
                if not whole and self._rng.random() < 0.1:
                    one.sendall(text)
                    # Gone at once, with a reset rather than an end.
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                one.sendall(text)
                one.shutdown(socket.SHUT_WR)
                while chunk := one.recv(1 << 16):
                    received += chunk
        except TimeoutError:
            self._report.wrong.append(f"no end within {_WAIT:.0f} s for {text[:300]!r}")
        except OSError:
            self._report.answers["reset"] += 1
        status = received[9:12].decode("latin-1") if received.startswith(b"HTTP/1.1 ") else "nothing"
        self._report.answers[f"HTTP {status}"] += 1
        # A pipelined answer may follow the first.
        if b"HTTP/1.1 5" in received or (whole and status == "nothing"):
            self._report.wrong.append(f"{received[:300]!r} for {text[:300]!r}")

    def _path(self) -> str:
        rng = self._rng
        version = rng.choice(["", "", "/versions/1", "/versions/99999999999999999999", "/labels/x", "/versions/-1"])
        if rng.random() < 0.5:
            return f"/v1/models/{self._model}:predict"
        return rng.choice(
            [
                f"/v1/models/{self._model}{version}:{rng.choice(['predict', 'predict', 'classify', 'regress', 'x'])}",
                f"/v1/models/{self._model}{version}{rng.choice(['', '/metadata'])}",
                *("/v1/models/%00%ff:predict", "/readyz", "/models", "/", "*", "x:80", "http://x/readyz", "//", "/?"),
            ]
        )

    def _document(self) -> Any:
        rng = self._rng
        document = {}
        for key in ("instances", "inputs", "examples", "context", "signature_name"):
            if rng.random() < 0.4:
                document[key] = self._value(3)
        if rng.random() < 0.3:
            document.pop("inputs", None)
            document.pop("signature_name", None)
            document["instances"] = [[rng.uniform(-9, 9) for _ in range(rng.choice([3, 3, 2]))] for _ in range(3)]
        return document if rng.random() < 0.9 else self._value(2)

    def _value(self, depth: int) -> Any:
        rng = self._rng
        if depth and rng.random() < 0.6:
            if rng.random() < 0.6:
                return [self._value(depth - 1) for _ in range(rng.randrange(4))]
            keys = ["x", "b64", "word", "", "inputs", "\udcff", "\0"]
            return {rng.choice(keys): self._value(depth - 1) for _ in range(rng.randrange(4))}
        return rng.choice(
            [
                *(None, True, False, 0, -1, 2**63, -(2**63) - 1, 10**400, 0.1, -0.0, 1e308, 5e-324),
                *(float("nan"), float("inf"), "", "cat", "c2F0", "=", "\ud800", "\0", "serving_default", "slow", "é"),
            ]
        )

    def _mutated(self, data: bytes) -> bytes:
        rng, changed = self._rng, bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(changed) + 1)
            kind = rng.randrange(4)
            if kind == 0 and at < len(changed):
                changed[at] = rng.randrange(256)
            elif kind == 1:
                del changed[at : at + rng.randrange(1, 20)]
            elif kind == 2:
                changed[at:at] = rng.randbytes(rng.randrange(1, 10))
            else:
                changed[at:at] = changed[max(0, at - rng.randrange(1, 30)) : at]
        return bytes(changed)


def run(minutes: float = 2.0) -> int:
    from benchmarks.model_server import free_ports, model_server

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "benchmarks.fuzz", str(folder)], check=True)
        message = (folder / "message").read_bytes()
        rest, rpc = free_ports(2)
        flags = (f"--model_base_path={folder / 'models'}", "--model_name=m")
        with model_server(folder / "log", rest, rpc, *flags) as process:
            first = attack(rest, rpc, "m", message, minutes * 15, seed=1)
            before = _resident(process.pid)
            rest_of_it = attack(rest, rpc, "m", message, minutes * 45, seed=2)
            after = _resident(process.pid)
            answers = process.poll() is None and _still_answers(rest, rpc, message)
        failures = (folder / "log").read_text(errors="replace").count(" failed.\n")
    wrong = first.wrong + rest_of_it.wrong
    for title, counts in (("sent", first.sent + rest_of_it.sent), ("answers", first.answers + rest_of_it.answers)):
        print(f"{title}: " + ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common()))
    print(f"resident: {before:.0f} MiB after a quarter of the time, {after:.0f} at the end")
    print(f"{len(wrong)} wrong answers, {failures} failures in the log, still answers: {answers}")
    for each in wrong[:5]:
        print(f"wrong: {each}")
    return 1 if wrong or failures or not answers or after > _GROWTH * before else 0


def _still_answers(rest: int, rpc: int, message: bytes) -> bool:
    from urllib.request import Request, urlopen

    import grpc

    body = json.dumps({"instances": [[1, 2, 3]]}).encode()
    with urlopen(Request(f"http://127.0.0.1:{rest}/v1/models/m:predict", body), timeout=_WAIT) as answer:
        right = json.load(answer) == {"predictions": [6.0]}
    with grpc.insecure_channel(f"127.0.0.1:{rpc}") as channel:
        return right and bool(channel.unary_unary(f"{_SERVICE}Predict")(message, timeout=_WAIT))


def _resident(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def write(folder: Path) -> None:
    """A model that sums three numbers, and reads tf.Examples; and a request for it."""
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    from towers.runtime import tf

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        def predict(self, x):  # type: ignore[no-untyped-def]
            return {"y": tf.reduce_sum(x, axis=1)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def classify(self, inputs):  # type: ignore[no-untyped-def]
            return {"scores": tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([3], tf.float32)})["x"]}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def regress(self, inputs):  # type: ignore[no-untyped-def]
            return {"outputs": tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([3], tf.float32)})["x"][:, 0]}

    model = Model()
    signatures = {"serving_default": model.predict, "classify": model.classify, "regress": model.regress}
    tf.saved_model.save(model, str(folder / "models" / "1"), signatures=signatures)
    request = PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([[1.0, 2.0, 3.0]]))
    (folder / "message").write_bytes(request.SerializeToString())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
