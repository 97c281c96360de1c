"""A few seconds of nonsense for both ports; `python -m benchmarks fuzz --minutes 5` goes on for longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.fuzz import attack

Serve = Callable[[str], Any]


@pytest.mark.parametrize("source", ["numeric1", "several", "tf1"])
def test_nonsense_is_the_clients_fault_and_the_server_goes_on(
    source: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(source)
    inputs = {"x": np.ones((1, 3), np.float32)}
    signature = "raw" if source == "tf1" else ""
    message = client.request(inputs, signature).SerializeToString()
    report = attack(client.server.rest_port, client.server.grpc_port, source, message, seconds=1.5)
    assert not report.wrong
    assert not [record for record in caplog.records if record.name.startswith("serving.")]
    assert len(report.sent) == 8
    assert {"HTTP 200", "HTTP 400", "gRPC INVALID_ARGUMENT"} <= report.answers.keys()
    assert client.http.get("/readyz").status_code == 200
    if source == "numeric1":
        assert client.rows([[1, 2, 3]]) == [[14.0]]
        assert client.predict(inputs)["y"].tolist() == [[6.0]]
