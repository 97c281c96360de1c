from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.model_server import ModelServer, Options, request_log
from serving.model_server.errors import Code
from serving.model_server.request_log import RequestLog


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_server_writes_a_line_for_each_request(tmp_path: Path, publish: Callable[..., Path], connect: Any) -> None:
    publish(tmp_path / "m", 1, "numeric1")
    options = Options(model_base_path=tmp_path / "m", request_log_file=tmp_path / "requests.jsonl")
    with ModelServer(options) as server:
        client = connect(server)
        client.rows([[1, 2, 3]])
        client.http.post("/v1/models/other:predict", json={"instances": ["secret"]})
        client.http.get("/readyz")
        client.predict({"x": np.ones((1, 3), np.float32)})
        with pytest.raises(grpc.RpcError):
            client.predict({}, "s")
    written = lines(tmp_path / "requests.jsonl")
    assert [(one["model"], one["api"], one["entrypoint"], one["status"]) for one in written] == [
        ("default", "Predict", "REST", "OK"),
        ("other", "Predict", "REST", "NOT_FOUND"),
        ("default", "Predict", "GRPC", "OK"),
        ("default", "Predict", "GRPC", "FAILED_PRECONDITION"),
    ]
    assert all(one["milliseconds"] > 0 and one["at"].endswith("Z") for one in written)
    assert "secret" not in (tmp_path / "requests.jsonl").read_text()


def test_a_share_of_the_requests(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "log", 0.25)
    for _ in range(4000):
        log.request("m", "Predict", "REST", Code.OK, 0.001)
    log.stop()
    assert 800 < len(lines(tmp_path / "log")) < 1200


def test_the_file_may_be_moved_away(tmp_path: Path, eventually: Callable[..., None]) -> None:
    log = RequestLog(tmp_path / "log")
    log.request("m", "Predict", "REST", Code.OK, 0.001)
    eventually(lambda: lines(tmp_path / "log"))
    (tmp_path / "log").rename(tmp_path / "old")
    log.request("n", "Predict", "REST", Code.OK, 0.001)
    log.stop()
    assert ([one["model"] for one in lines(tmp_path / "old")], [one["model"] for one in lines(tmp_path / "log")]) == (
        ["m"],
        ["n"],
    )


def test_what_is_lost_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "_MAX_WAITING", 2)
    (tmp_path / "folder").mkdir()
    log = RequestLog(tmp_path / "folder" / "log")
    (tmp_path / "folder" / "log").unlink()
    (tmp_path / "folder").rmdir()
    for _ in range(5):
        log.request("m", "Predict", "REST", Code.OK, 0.001)
    log.stop()
    assert "3 requests are missing" in caplog.text
    assert "2 requests are missing" in caplog.text


def test_a_file_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        RequestLog(tmp_path / "absent" / "log")
