"""100 swaps of a model under load, with 20 broken versions among them: no request may fail, no memory may be lost.

The model holds 32 MiB. Four clients ask without a pause, two by REST and two by gRPC, and check every answer: each
version has its own. Versions are published as soon as the one before serves or is refused; three stay on disk. Broken
ones have no variables, a cut graph, a bad warm-up request or no graph that can be read, in turn.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.request import urlopen

from benchmarks.model_server import free_ports, model_server

_SWAPS, _BROKEN = 100, 20
_ROWS, _WIDTH = 1 << 17, 64
_ALLOWED = 1.10  # of the memory at the start


def run() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "benchmarks.swaps", str(folder)], check=True)
        return _measure(folder)


def _measure(folder: Path) -> int:
    base = folder / "models"
    rest, rpc = free_ports(2)
    _publish(folder, base, 1)
    flags = (f"--model_base_path={base}", "--model_name=m", "--max_num_load_retries=0")
    with model_server(folder / "log", rest, rpc, *flags) as process:
        clients = [_Client(rest, rpc, by_rest=number % 2 == 0) for number in range(4)]
        for client in clients:
            client.start()
        time.sleep(5)
        first = most = _resident(process.pid)
        after: dict[int, float] = {}
        version, started = 1, time.perf_counter()
        for number in range(_SWAPS + _BROKEN):
            version += 1
            broken = number % (_SWAPS // _BROKEN + 1) == 3
            _publish(folder, base, version, broken=number if broken else None)
            _await(rest, version, "END" if broken else "AVAILABLE")
            for old in sorted(base.iterdir(), key=lambda path: int(path.name))[:-3]:
                shutil.rmtree(old)
            most = max(most, _resident(process.pid))
            if (number + 1) % 30 == 0:
                after[number + 1] = _resident(process.pid)
        seconds = time.perf_counter() - started
        time.sleep(3)  # the last version's predecessor is let go
        last = _resident(process.pid)
        for client in clients:
            client.stop()
    asked, failed = sum(client.asked for client in clients), [each for client in clients for each in client.failed]
    print(f"{_SWAPS} swaps and {_BROKEN} broken versions in {seconds:.0f} s, {asked:,} requests, {len(failed)} failed")
    between = ", ".join(f"{mebibytes:.0f} after {number}" for number, mebibytes in after.items())
    print(f"resident: {first:.0f} MiB at the start, {between}, {last:.0f} at the end, {most:.0f} at most")
    for each in failed[:5]:
        print(f"failed: {each}")
    served = {version for client in clients for version in client.versions}
    print(f"answers came from {len(served)} versions")
    return 1 if failed or last > _ALLOWED * first or len(served) < _SWAPS // 2 else 0


class _Client(threading.Thread):
    """Asks again and again; an answer is its version's number."""

    def __init__(self, rest: int, rpc: int, *, by_rest: bool) -> None:
        super().__init__()
        self._rest, self._rpc, self._by_rest = rest, rpc, by_rest
        self._stopping = False
        self.asked = 0
        self.failed: list[str] = []
        self.versions: set[int] = set()

    def stop(self) -> None:
        self._stopping = True
        self.join()

    def run(self) -> None:
        ask = self._over_rest() if self._by_rest else self._over_grpc()
        while not self._stopping:
            try:
                version = next(ask)
                if self.versions and version < max(self.versions):
                    self.failed.append(f"version {version} answered after {max(self.versions)}")
                self.versions.add(version)
            except Exception as error:
                self.failed.append(repr(error)[:300])
                ask = self._over_rest() if self._by_rest else self._over_grpc()
            self.asked += 1

    def _over_rest(self):  # type: ignore[no-untyped-def]
        connection = http.client.HTTPConnection("127.0.0.1", self._rest, timeout=20)
        body = json.dumps({"instances": [3, 4]})
        while True:
            connection.request("POST", "/v1/models/m:predict", body)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise RuntimeError(text)
            first, second = json.loads(text)["predictions"]
            if first != second:
                raise RuntimeError(text)
            yield int(first)

    def _over_grpc(self):  # type: ignore[no-untyped-def]
        import grpc
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        tensor = request.inputs["row"]
        tensor.dtype = 3
        tensor.tensor_shape.dim.add().size = 2
        tensor.int_val.extend([3, 4])
        with grpc.insecure_channel(f"127.0.0.1:{self._rpc}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while True:
                answer = stub.Predict(request, timeout=20)
                first, second = answer.outputs["version"].float_val
                if first != second or first != answer.model_spec.version.value:
                    raise RuntimeError(str(answer))
                yield int(first)


def _publish(folder: Path, base: Path, version: int, broken: int | None = None) -> None:
    """The prepared SavedModel as this version: the table is shared, the number that it answers is its own."""
    draft = folder / "draft"
    shutil.copytree(folder / "saved", draft, copy_function=os.link)
    (draft / "assets" / "version.txt").unlink()
    (draft / "assets" / "version.txt").write_text(str(version))
    if broken is not None:
        graph = draft / "saved_model.pb"
        content = graph.read_bytes()
        kind = broken // 6 % 4
        if kind == 0:
            shutil.rmtree(draft / "variables")
        elif kind == 3:
            (draft / "assets.extra").mkdir()
            (draft / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no record")
        else:
            graph.unlink()
            graph.write_bytes(content[: len(content) // 2] if kind == 1 else b"not a graph")
    base.mkdir(exist_ok=True)
    draft.rename(base / str(version))


def _await(rest: int, version: int, state: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urlopen(f"http://127.0.0.1:{rest}/v1/models/m", timeout=20) as answer:
            states = {one["version"]: one["state"] for one in json.load(answer)["model_version_status"]}
        if states.get(str(version)) == state:
            return
        time.sleep(0.05)
    raise RuntimeError(f"version {version} is not {state}: {states}")


def _resident(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def write(folder: Path) -> None:
    """A table that must be loaded, and a number from an asset."""
    from towers.runtime import tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = tf.Variable(tf.ones([_ROWS, _WIDTH]) / _WIDTH)
            self.asset = tf.saved_model.Asset(str(folder / "version.txt"))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "row")])
        def predict(self, row):  # type: ignore[no-untyped-def]
            version = tf.strings.to_number(tf.io.read_file(self.asset.asset_path))
            return {"version": version * tf.reduce_sum(tf.gather(self.table, row), axis=1)}

    (folder / "version.txt").write_text("1")
    model = Model()
    tf.saved_model.save(model, str(folder / "saved"), signatures=model.predict)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
