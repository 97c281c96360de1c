"""What an edge server refuses before it looks at what is asked."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import httpx
import pytest

from serving.edge import guard, rest
from serving.edge.server import EdgeServer


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


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8510", 200),
        ("localhost", 200),
        ("[::1]:8510", 200),
        ("evil.example", 403),
        ("localhost.evil.example:8510", 403),
    ],
)
def test_a_page_whose_name_leads_here_reads_nothing(
    client: httpx.Client, store_folder: Path, host: str, status: int
) -> None:
    answer = client.post("/v1/recommendations", headers={"host": host})
    assert answer.status_code == status, answer.text
    assert client.get("/healthz", headers={"host": host}).status_code == 200
    with EdgeServer(store_folder, poll_seconds=0, allow_public_bind=True) as named:
        assert httpx.post(f"{named.url}/v1/recommendations", headers={"host": host}).status_code == 200


CHANGES = [("POST", "/v1/rollback"), ("POST", "/v1/reload"), ("PUT", "/v1/items/i01"), ("DELETE", "/v1/items/i01")]


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_page_of_another_site_changes_nothing(client: httpx.Client, method: str, path: str) -> None:
    before = client.get("/readyz").json()
    here = f"http://127.0.0.1:{client.base_url.port}"
    for origin in ("https://evil.example", "null", f"{here}0", "http://127.0.0.1", ""):
        answer = client.request(method, path, headers={"origin": origin})
        assert answer.status_code == 403, (origin, answer.text)
        assert answer.json()["error"].endswith(".")
    # What a page may send without asking, where a browser tells no origin.
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.request(method, path, content=b"{}", headers={"content-type": kind})
        assert answer.status_code == 415
    assert client.get("/readyz").json() == before
    assert client.request(method, path, headers={"origin": here}).status_code != 403


def test_a_page_of_its_own_host_may_ask(client: httpx.Client) -> None:
    here = f"http://127.0.0.1:{client.base_url.port}"
    assert client.put("/v1/items/new", json={"title": "storm"}, headers={"origin": here}).status_code == 200
    kind = {"content-type": "application/json; charset=utf-8"}
    assert client.post("/v1/recommendations", content=b"{}", headers=kind).status_code == 200
