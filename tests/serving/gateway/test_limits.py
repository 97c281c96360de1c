"""Limits that hold for everybody: bodies where no key is asked for, ids, methods."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway import bodies, guard
from serving.gateway.schemas import microseconds

Run = Callable[..., Any]


def test_where_no_key_is_asked_for_no_body_is_read(run: Run) -> None:
    http = run().http
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert http.request("GET", path, content=b"x" * 5_000).status_code == 413
        assert http.request("GET", path, content=iter([b"x" * 900] * 5)).status_code == 413
        assert http.request("GET", path).status_code == 200


def test_a_body_that_does_not_come_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_SECONDS", 0.2)
    served = run()
    with socket.create_connection(("127.0.0.1", served.http.base_url.port), 10) as client:
        client.sendall(b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer


def test_a_timeout_of_ours_is_not_the_clients() -> None:
    from serving.gateway.metrics import Metrics
    from serving.gateway.settings import Settings

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise TimeoutError

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    settings = Settings(store_url="x", model="feed", log_requests=False)  # type: ignore[arg-type]
    scope = {"type": "http", "method": "GET", "path": "/v1/live", "headers": []}
    asyncio.run(guard.Guard(app, settings, Metrics(), needs_key=False)(scope, receive, send))
    assert sent[0]["status"] == 500


def test_a_path_with_a_slash_too_many_is_no_other_path(run: Run) -> None:
    http = run().http
    for path in ("/v1/events/", "/v1/recommendations/", "//v1/recommendations", "/metrics/", "/v1/items/a/similar/"):
        assert http.post(path, json={"user_id": "u"}).status_code in (404, 405)


@pytest.mark.parametrize("where", ["postgresql"], indirect=True)
def test_the_longest_id_of_any_letters_can_be_stored(run: Run) -> None:
    """An index of PostgreSQL takes 2,704 bytes; what it refuses would fail all that is written with it."""
    http = run().http
    letters = random.Random(1)

    def name(length: int) -> str:
        return "".join(chr(letters.randrange(0x20000, 0x2A6DF)) for _ in range(length))

    event = {"event_id": name(500), "user_id": name(500), "item_id": name(500), "kind": "click", "request_id": "r"}
    answer = http.post("/v1/events", json=event)
    assert answer.status_code == 202, answer.text
    assert http.post("/v1/items", json={"items": [{"item_id": name(500)}]}).status_code == 200
    for column in ("event_id", "user_id", "item_id"):
        assert http.post("/v1/events", json=event | {column: name(501)}).status_code == 422


def test_a_refused_method_names_those_that_there_are(run: Run) -> None:
    http = run().http
    expected = {
        "/v1/items/a": {"GET", "PUT", "DELETE"},
        "/v1/items": {"GET", "POST"},
        "/v1/items/a/similar": {"GET", "PUT", "DELETE"},
        "/v1/users": {"GET"},
        "/v1/users/a": {"GET", "DELETE"},
        "/v1/models/promote": {"POST"},
        "/v1/recommendations": {"POST"},
        "/metrics": {"GET"},
    }
    for path, methods in expected.items():
        for method in ("PATCH", "OPTIONS"):
            answer = http.request(method, path)
            assert answer.status_code == 405
            assert {each.strip() for each in answer.headers["allow"].split(",")} == methods, path


_offsets = st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=_offsets))
def test_moments_are_exact(moment: datetime) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert epoch + timedelta(microseconds=microseconds(moment) or 0) == moment


def test_what_is_to_come_is_told_in_the_document(run: Run) -> None:
    document = run().http.get("/openapi.json").json()
    at = document["components"]["schemas"]["Event"]["properties"]["at"]
    assert "refused" in at["description"]
    assert "5 minutes" in at["description"]


def test_bodies_together_are_bounded(run: Run, eventually: Any) -> None:
    served = run(max_body_bytes=10_000, max_bytes_under_way=20_000)
    together = served.server.gateway.guard._bodies
    address = urlsplit(served.server.url)
    kind = b"Host: localhost\r\nContent-Type: application/json"
    head = b"POST /v1/events HTTP/1.1\r\n" + kind + b"\r\nContent-Length: 10000\r\n\r\n"
    waiting = [socket.create_connection((address.hostname, address.port)) for _ in range(2)]
    try:
        for connection in waiting:
            connection.sendall(head + b" " * 9_000)
        eventually(lambda: together.held == 18_000)
        large = {"user_id": "u", "exclude": ["x" * 400] * 10}
        answer = served.http.post("/v1/recommendations", json=large)
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        assert served.http.post("/v1/recommendations", json={"user_id": "u"}).status_code == 200
    finally:
        for connection in waiting:
            connection.close()
    eventually(lambda: together.held == 0)
    assert served.http.post("/v1/recommendations", json=large).status_code == 200
    assert together.held == 0


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("[::1]:8080", 200),
        ("evil.example", 403),
        ("localhost.evil.example:8080", 403),
        ("127.0.0.1.evil.example", 403),
    ],
)
def test_without_keys_a_page_whose_name_leads_here_reads_nothing(run: Run, host: str, status: int) -> None:
    answer = run().http.get("/v1/live", headers={"host": host})
    assert answer.status_code == status, answer.text


def test_without_keys_a_page_of_another_site_changes_nothing(run: Run) -> None:
    served = run()
    # Of the requests that change something, one needs no body, and a browser asks nobody before it sends it.
    look = "/v1/experiments/e/look"
    for origin in ("https://evil.example", "null", f"{served.http.base_url}0"):
        assert served.http.post(look, headers={"origin": origin}).status_code == 403
    own = f"http://{served.http.base_url.host}:{served.http.base_url.port}"
    assert served.http.post(look, headers={"origin": own}).status_code == 404  # there is no such experiment


@pytest.mark.parametrize(
    ("since", "status"), [("8", 200), ("-0", 200), ("\x858", 422), (" 8", 422), ("٨", 422), ("8.0", 422)]
)
def test_a_number_in_a_query_is_written_in_digits_alone(run: Run, since: str, status: int) -> None:
    answer = run().http.get("/v1/measures", params={"metric": "ctr", "since": since})
    assert answer.status_code == status, answer.text
