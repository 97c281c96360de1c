"""What an edge server refuses before it looks at what is asked."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.edge import guard, rest
from serving.edge.server import EdgeServer


@pytest.fixture
def server(store_folder: Path, bundles: list[Path]) -> Iterator[EdgeServer]:
    with EdgeServer(store_folder, poll_seconds=0) as running:
        yield running


@pytest.fixture
def client(server: EdgeServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as opened:
        yield opened


def test_bodies_that_do_not_come_are_given_up(
    server: EdgeServer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds all places would else hold them for ever, and the box would count as dead."""
    monkeypatch.setattr(guard, "_SECONDS", 2)
    monkeypatch.setattr(rest, "MAX_QUEUED", 4)
    head = b"POST /v1/recommendations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"
    with contextlib.ExitStack() as opened:
        address = ("127.0.0.1", client.base_url.port)
        stalled = [opened.enter_context(socket.create_connection(address, 20)) for _ in range(4)]
        for each in stalled:
            each.sendall(head)
        deadline = time.monotonic() + 1.5
        while client.post("/v1/recommendations").status_code != 429:
            assert time.monotonic() < deadline
        assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        for each in stalled:
            answer = each.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"connection: close" in answer
            assert b"did not come within 2 seconds." in answer
    assert client.post("/v1/recommendations").status_code == 200
