"""A gateway with its model server in this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from serving.client import Client
from serving.gateway.stack import ServingStack
from tests.serving.gateway.conftest import fill


@pytest.fixture
def models(export_toy: Callable[[bool], Path], tmp_path: Path) -> Path:
    shutil.copytree(export_toy(True), tmp_path / "models" / "feed" / "1")
    return tmp_path / "models"


def test_the_first_feed_is_the_model_s_own(models: Path, where: Path | str) -> None:
    fill(where)
    with ServingStack(where, models, deadline_ms=5_000, log_requests=False) as stack:
        answer = httpx.post(f"{stack.url}/v1/recommendations", json={"user_id": "u1", "k": 3}).json()
        assert (answer["model"], answer["fallback"]) == ({"name": "feed", "version": 1}, None)
        for address in (f"grpc://{stack.grpc_target}", str(stack.rest_url), stack.model_server):
            with Client(address) as client:
                assert [each.version for each in client.versions("feed")] == [1]
        url = stack.url
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_processes_started_later_inherit_nothing_of_it(models: Path, tmp_path: Path) -> None:
    before = dict(os.environ)
    with ServingStack(tmp_path / "store", models, log_requests=False):
        assert dict(os.environ) == before


def test_several_run_side_by_side(models: Path, tmp_path: Path) -> None:
    with (
        ServingStack(tmp_path / "a", models, log_requests=False) as first,
        ServingStack(tmp_path / "b", model="feed", model_server=str(first.rest_url), log_requests=False) as second,
    ):
        assert first.url != second.url
        assert second.rest_url is None
        assert second.grpc_target is None
        assert httpx.get(f"{second.url}/readyz").status_code == 200


def test_what_cannot_start_says_why_and_leaves_nothing_open(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no model"):
        ServingStack(tmp_path / "store", tmp_path)
    with pytest.raises(ValueError, match="Give a folder of models"):
        ServingStack(tmp_path / "store", model="feed")
    with pytest.raises(ValueError, match="deadline_ms"):
        ServingStack(tmp_path / "store", models, deadline_ms=-1)
    (tmp_path / "file").write_text("no store")
    stack = ServingStack(tmp_path / "file", models, log_requests=False)
    with pytest.raises(ValueError, match="file"):
        stack.start()
    assert stack.model_server.registry is None  # it was stopped
    with pytest.raises(ValueError, match="not been started"):
        _ = stack.url


def test_giving_up_stops_what_was_started(models: Path, tmp_path: Path) -> None:
    stack = ServingStack(tmp_path / "store", models, log_requests=False)
    stack.start(cancelled=lambda: True)
    stack.stop()
    with pytest.raises(ValueError, match="not been started"):
        _ = stack.server
