from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serving.model_server import ModelServer, Options
from serving.model_server.errors import Code
from serving.model_server.monitoring import BUCKETS, DEFAULT_PATH, Monitor

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
X = {"x": np.array([[1, 2, 3]], np.float32)}


def samples(text: str) -> Samples:
    # The parser adds `_total` to the names of counters.
    families = text_string_to_metric_families(text)
    return {
        (sample.name.removeprefix(":tensorflow:serving:"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@given(st.lists(st.floats(0, 1e4), max_size=30))
def test_a_bucket_counts_what_took_no_longer(seconds: list[float]) -> None:
    monitor = Monitor()
    for one in seconds:
        monitor.request("m", "Predict", "REST", Code.OK, one)
    read = samples(monitor.text().decode())
    labels = (("API", "Predict"), ("entrypoint", "REST"), ("model_name", "m"))
    for bound in (*BUCKETS, float("inf")) if seconds else ():
        le = "+Inf" if bound == float("inf") else f"{bound:.6g}"
        key = ("request_latency_bucket", tuple(sorted((*labels, ("le", le)))))
        assert read[key] == sum(one * 1e6 <= bound for one in seconds)
    if seconds:
        assert read["request_latency_count", labels] == len(seconds)
        assert read["request_latency_sum", labels] == pytest.approx(sum(seconds) * 1e6)


def test_the_text_names_what_tensorflow_serving_names() -> None:
    monitor = Monitor()
    monitor.request('a"b\n', "Predict", "GRPC", Code.NOT_FOUND, 0.001)
    monitor.run("m", "Predict", 0.001)
    lines = monitor.text().decode().splitlines()
    assert "# TYPE :tensorflow:serving:request_count counter" in lines
    assert r':tensorflow:serving:request_count{model_name="a\"b\n",status="NOT_FOUND"} 1.0' in lines
    assert "# TYPE :tensorflow:serving:request_latency histogram" in lines
    buckets = [line for line in lines if line.startswith(":tensorflow:serving:runtime_latency_bucket")]
    assert len(buckets) == 34
    assert buckets[0].endswith('{API="Predict",le="10",model_name="m",runtime="TF1"} 0.0')


def test_nothing_is_lost_between_threads() -> None:
    monitor = Monitor()

    def many() -> None:
        for _ in range(2000):
            monitor.request("m", "Predict", "REST", Code.OK, 1e-4)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert samples(monitor.text().decode())["request_count_total", (("model_name", "m"), ("status", "OK"))] == 8000


@pytest.fixture
def watched(tmp_path: Path, publish: Callable[..., Path], connect: Any) -> Iterator[Callable[[str], Any]]:
    publish(tmp_path / "m", 1, "numeric1")
    servers = []

    def start(config: str) -> Any:
        (tmp_path / "monitoring.config").write_text(config)
        server = ModelServer(
            Options(
                model_name="m", model_base_path=tmp_path / "m", monitoring_config_file=tmp_path / "monitoring.config"
            )
        )
        server.start()
        servers.append(server)
        return connect(server)

    yield start
    for server in servers:
        server.stop()


def test_requests_are_counted(watched: Callable[[str], Any]) -> None:
    client = watched("prometheus_config { enable: true }")
    client.rows([[1, 2, 3]])
    client.rows([[1, 2, 3]])
    assert client.post({"instances": [[1]]}).status_code == 400
    client.predict(X)
    with pytest.raises(grpc.RpcError):
        client.predict(X, "no such signature")
    assert client.http.post("/v1/models/other:predict", json={}).status_code == 404
    answer = client.http.get(DEFAULT_PATH)
    assert answer.headers["content-type"].startswith("text/plain")
    read = samples(answer.text)
    counts = {labels: value for (name, labels), value in read.items() if name == "request_count_total"}
    assert counts == {
        (("model_name", "m"), ("status", "OK")): 3,
        (("model_name", "m"), ("status", "INVALID_ARGUMENT")): 1,
        (("model_name", "m"), ("status", "FAILED_PRECONDITION")): 1,
    }
    of_rest = (("API", "Predict"), ("entrypoint", "REST"), ("model_name", "m"))
    of_grpc = (("API", "Predict"), ("entrypoint", "GRPC"), ("model_name", "m"))
    assert (read["request_latency_count", of_rest], read["request_latency_count", of_grpc]) == (3, 2)
    assert read["runtime_latency_count", (("API", "Predict"), ("model_name", "m"), ("runtime", "TF1"))] == 3


def test_another_path_and_off(watched: Callable[[str], Any]) -> None:
    http: httpx.Client = watched('prometheus_config { enable: true, path: "/metrics" }').http
    assert (http.get("/metrics").status_code, http.get(DEFAULT_PATH).status_code) == (200, 404)
    http = watched("prometheus_config { enable: false }").http
    assert http.get(DEFAULT_PATH).status_code == 404
