"""The API's edges: what is refused and how, keys, limits, the document, logs."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.events import Store
from serving.events.keys import SCOPES, create_key, revoke_key
from serving.events.tables import KINDS, POSITIVE_KINDS
from serving.gateway.errors import Refused
from serving.gateway.schemas import Event
from serving.gateway.server import GatewayServer
from serving.gateway.settings import Settings

Run = Callable[..., Any]
EVENT = {"event_id": "e", "user_id": "u", "item_id": "i", "kind": "click"}


def test_what_is_wrong_is_told_in_one_sentence(run: Run) -> None:
    http = run(max_k=50).http
    long_ago, soon = datetime(1980, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(hours=1)
    feed: list[Any] = [
        *(b"", b"{", b"[]", b"null", b'{"user_id": "\\ud800"}', b'{"user_id": "a", "k": 1e400}', b"\xff"),
        *({}, {"user_id": ""}, {"user_id": 5}, {"user_id": "a\nb"}, {"user_id": "a", "k": 0}),
        *({"user_id": "a", "k": 51}, {"user_id": "a", "other": 1}, {"user_id": "a", "exclude": "b"}),
        *({"user_id": "a", "filters": {"languages": "en"}}, {"user_id": "a", "context": {"time_seconds": -1}}),
        {"user_id": "x" * 1001},
    ]
    event: list[Any] = [
        *({}, [], {"events": []}, EVENT | {"kind": "buy"}, EVENT | {"scroll_depth": 2}, EVENT | {"at": "yesterday"}),
        *(EVENT | {"at": soon.isoformat()}, EVENT | {"at": "2026-01-01T00:00:00"}, EVENT | {"dwell_seconds": -1}),
        *(
            {"events": [EVENT] * 1001},
            EVENT | {"user_id": None},
            EVENT | {"item_id": "a\x00"},
            EVENT | {"position": 0.5},
        ),
    ]
    for path, bodies in (("/v1/recommendations", feed), ("/v1/events", event)):
        for body in bodies:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            answer = http.post(path, content=content, headers={"content-type": "application/json"})
            assert answer.status_code == 422, (body, answer.text)
            assert answer.json().keys() == {"error"}
            assert answer.json()["error"].endswith(".")
            assert answer.headers["x-request-id"]
    assert http.post("/v1/events", json=EVENT | {"at": long_ago.isoformat()}).status_code == 202
    assert http.get("/v1/recommendations").status_code == 405
    assert http.get("/nothing").json() == {"error": "There is nothing here."}
    assert http.put("/v1/items/a%00b", json={}).json() == {"error": "There is nothing here."}


def test_one_wrong_event_refuses_all(run: Run) -> None:
    http = run().http
    answer = http.post("/v1/events", json={"events": [EVENT, EVENT | {"event_id": "f", "kind": "buy"}]})
    assert answer.status_code == 422
    assert "events.1.kind" in answer.json()["error"]
    assert http.post("/v1/events", json=EVENT).json() == {"accepted": 1, "new": 1}


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused(run: Run, chunked: bool) -> None:
    http = run(max_body_bytes=2_000).http
    body = json.dumps({"user_id": "u", "exclude": ["x" * 500] * 8}).encode()
    content: Any = iter([body[:1_500], body[1_500:]]) if chunked else body
    answer = http.post("/v1/recommendations", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json() == {"error": "The body is larger than 2000 bytes."}
    assert http.post("/v1/recommendations", json={"user_id": "u"}).status_code == 200


def test_keys_and_their_scopes(run: Run, where: Path | str, eventually: Any) -> None:
    served = run()
    calls = {
        "recommend": ("POST", "/v1/recommendations", {"user_id": "u"}),
        "events": ("POST", "/v1/events", EVENT),
        "items": ("PUT", "/v1/items/i00", {"title": "x"}),
        "users": ("DELETE", "/v1/users/u", None),
        "experiments": ("GET", "/v1/experiments", None),
        "models": ("GET", "/v1/models", None),
        "metrics": ("GET", "/metrics", None),
    }
    assert calls.keys() == set(SCOPES)

    def status(scope: str, key: str | None) -> int:
        method, path, body = calls[scope]
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return int(served.http.request(method, path, json=body, headers=headers).status_code)

    assert status("recommend", None) == 200  # on loopback, before there is any key
    with Store(where) as store:
        made = {scope: create_key(store, scope, [scope]) for scope in SCOPES}
        eventually(lambda: status("recommend", None) == 401)
        # The gateway may have looked while they were made.
        eventually(lambda: status(SCOPES[-1], made[SCOPES[-1]][1]) == 200)
        for scope, (_, key) in made.items():
            # Without a registry there are no versions to show.
            assert status(scope, key) in ((404,) if scope == "models" else (200, 202))
            assert {status(other, key) for other in SCOPES if other != scope} == {403}
        assert {status(scope, "belfry_x_y") for scope in SCOPES} == {401}
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert served.http.get(path).status_code == 200
        assert served.http.get("/nothing").status_code == 401
        for key_id, _ in made.values():
            revoke_key(store, key_id)
        eventually(lambda: status("recommend", made["recommend"][1]) == 401)


def test_a_public_address_needs_keys(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {
        "store_url": str(tmp_path),
        "model": "feed",
        "model_server": "http://127.0.0.1:1",
        "port": 0,
    }
    with pytest.raises(Refused, match="belfry keys create"):
        GatewayServer(Settings(**chosen, bind="0.0.0.0"))
    with Store(tmp_path) as store:
        _, key = create_key(store, "app", ["recommend"])
    with GatewayServer(Settings(**chosen, bind="0.0.0.0", log_requests=False)) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.post(f"{url}/v1/recommendations", json={"user_id": "u"}).status_code == 401
        headers = {"x-api-key": key}
        assert httpx.post(f"{url}/v1/recommendations", json={"user_id": "u"}, headers=headers).status_code == 200


def test_a_keys_rate(run: Run, where: Path | str) -> None:
    with Store(where) as store:
        _, slow = create_key(store, "slow", ["recommend"], rate=2.0)
        _, fast = create_key(store, "fast", ["recommend"])
    http = run().http

    def ask(key: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return http.post("/v1/recommendations", json={"user_id": "u"}, headers=headers)

    statuses = [ask(slow) for _ in range(10)]
    refused = [answer for answer in statuses if answer.status_code == 429]
    assert len(refused) >= 5
    assert int(refused[0].headers["retry-after"]) >= 1
    assert {ask(fast).status_code for _ in range(10)} == {200}


def test_more_at_once_than_allowed(run: Run) -> None:
    served = run(max_under_way=1)

    def ask(number: int) -> int:
        return httpx.post(f"{served.server.url}/v1/recommendations", json={"user_id": f"u{number}"}).status_code

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(ask, range(40)))
    assert set(statuses) <= {200, 429}
    assert 200 in statuses


def test_logs_hold_nobody(run: Run, caplog: pytest.LogCaptureFixture, eventually: Any) -> None:
    caplog.set_level(logging.INFO, "serving")
    served = run(log_requests=True)
    served.feed("karl.k", exclude=["secret-item"])
    served.click("karl.k", "secret-item")
    served.http.delete("/v1/users/karl.k")
    served.http.post(
        "/v1/recommendations", json={"user_id": "karl.k", "k": "secret-item"}, headers={"x-request-id": "abc-1"}
    )

    def lines() -> list[Any]:
        return [record.fields for record in caplog.records if hasattr(record, "fields")]

    # A line is written after its answer.
    expected = ["/v1/recommendations", "/v1/events", "/v1/users/{user_id}", "/v1/recommendations"]
    eventually(lambda: [line["route"] for line in lines()][-4:] == expected)
    fields = lines()
    assert fields[-1]["request_id"] == "abc-1"
    text = "".join(
        f"{record.getMessage()} {vars(record)}" for record in caplog.records if record.name.startswith("serving")
    )
    assert "karl" not in text
    assert "secret-item" not in text


def test_the_document_describes_every_answer(run: Run) -> None:
    served = run()
    document = served.http.get("/openapi.json").json()
    assert served.http.get("/openapi.json").json() == document
    operations = {(method, path): each for path, all_of in document["paths"].items() for method, each in all_of.items()}
    assert {path for _, path in operations} == {
        *("/v1/recommendations", "/v1/events", "/v1/items", "/v1/items/{item_id}", "/v1/items/{item_id}/similar"),
        *("/v1/items/{item_id}/image", "/v1/items/{item_id}/readers", "/v1/preview"),
        *("/v1/users", "/v1/users/{user_id}", "/readyz", "/healthz", "/metrics"),
        *("/v1/models", *(f"/v1/models/{what}" for what in ("promote", "retire", "rollback"))),
        *("/v1/live", "/v1/measures", "/v1/alerts"),
        *("/v1/experiments", "/v1/experiments/{name}"),
        *(f"/v1/experiments/{{name}}/{what}" for what in ("look", "ramp", "stop")),
    }
    schemas = document["components"]["schemas"]
    for (method, path), operation in operations.items():
        for code, answer in operation["responses"].items():
            if int(code) >= 400 and path != "/readyz":
                content = answer["content"]["application/json"]["schema"]
                assert content == {"$ref": "#/components/schemas/Failure"}, (method, path, code)
        assert path in ("/readyz", "/healthz", "/metrics") or {"401", "422", "429"} <= operation["responses"].keys()
    assert "HTTPValidationError" not in schemas
    used = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert used == schemas.keys()
    assert sorted(schemas["Event"]["properties"]["kind"]["enum"]) == sorted(KINDS)


def test_events_have_the_columns_of_the_log() -> None:
    from serving.events.tables import EVENTS

    assert Event.model_fields.keys() == set(EVENTS.columns.keys())
    assert set(POSITIVE_KINDS) < set(KINDS)


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
_known = st.sampled_from(
    [
        "user_id",
        "k",
        "placement",
        "filters",
        "exclude",
        "context",
        "languages",
        "language",
        "time_seconds",
        "events",
        "event_id",
        "item_id",
        "kind",
        "at",
    ]
)
_bodies = st.dictionaries(_known, _json | st.dictionaries(_known, _json) | st.lists(st.dictionaries(_known, _json)))


def test_whatever_is_sent_is_answered_or_refused(run: Run) -> None:
    served = run(max_k=50)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_bodies | _json, st.sampled_from(["/v1/recommendations", "/v1/events", "/v1/items"]))
    def check(body: Any, path: str) -> None:
        content = json.dumps(body).encode("utf-8", "surrogatepass")
        answer = served.http.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code in (200, 202, 422), answer.text
        if answer.status_code >= 400:
            assert answer.json().keys() == {"error"}

    check()


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_a_body_that_is_not_declared_as_json_is_refused(run: Run, kind: str) -> None:
    """A page of another site can send these to a gateway on its reader's machine, and JSON it cannot."""
    served = run()
    for path in ("/v1/recommendations", "/v1/events", "/v1/items"):
        answer = served.http.post(path, content=b'{"user_id": "u1"}', headers={"content-type": kind})
        assert answer.status_code == 415
        assert "Content-Type: application/json" in answer.json()["error"]
