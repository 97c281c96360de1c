"""What happens when a part is away: answers go on, and events are refused honestly."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from serving.gateway.model import Model, Version

Run = Callable[..., Any]


@pytest.fixture
def mute() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_it_is_ready_once_the_model_is_warm(run: Run, monkeypatch: pytest.MonkeyPatch, eventually: Any) -> None:
    warm, warmed = Model.warm, threading.Event()

    async def slow(model: Model, version: Version) -> None:
        await asyncio.to_thread(warmed.wait, 60)
        await warm(model, version)

    monkeypatch.setattr(Model, "warm", slow)
    served = run(ready=False)
    answer = served.http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "starting")
    # Who asks all the same has an answer.
    assert served.feed("u1", k=1)["fallback"] == "newest"
    warmed.set()
    eventually(lambda: served.http.get("/readyz").status_code == 200)
    assert served.feed("u1", k=1)["fallback"] is None


def test_without_a_model_the_newest_is_shown(run: Run, eventually: Callable[..., None]) -> None:
    served = run("http://127.0.0.1:1", ready=False)
    eventually(lambda: served.http.get("/readyz").json()["status"] == "ready")
    feed = served.feed("u1", k=3, context={"language": "de"})
    assert feed["fallback"] == "newest"
    assert feed["model"] == {"name": "feed", "version": None}
    assert [item["item_id"] for item in feed["items"]] == ["i39", "i38", "i37"]
    assert served.http.get("/v1/items/i00/similar").json()["fallback"] == "newest"


def test_fallbacks_in_their_order(run: Run, own_model: Callable[..., Any], eventually: Callable[..., None]) -> None:
    model = own_model()
    served = run(model, answer_seconds=0.0, trend_seconds=0.05)
    served.click("u1", "i00")
    fresh = served.feed("u1", k=5)
    assert fresh["fallback"] is None
    for user in ("u5", "u6", "u7"):
        served.click(user, "i08", "i13")
    model.stop()
    stale = served.feed("u1", k=5)
    assert stale["fallback"] == "stale"
    assert stale["items"] == fresh["items"]
    # What has been read since, or taken off offer, is no longer in it.
    read, removed = (item["item_id"] for item in fresh["items"][:2])
    served.click("u1", read)
    served.http.delete(f"/v1/items/{removed}")
    assert served.ids("u1", k=5) == [item["item_id"] for item in fresh["items"][2:]]
    eventually(lambda: served.feed("u2", k=1)["fallback"] == "trending")
    trending = served.feed("u2", k=3, context={"language": "en"})["items"]
    assert trending[0]["item_id"] == "i08"
    assert trending[0]["reason"] == "Trending in en"
    assert served.feed("u2", k=1, filters={"categories": ["weather"]})["fallback"] == "newest"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_model_that_hangs_costs_the_deadline_once(run: Run, mute: str, scheme: str, eventually: Any) -> None:
    served = run(f"{scheme}://{mute}", ready=False, deadline_ms=150)
    assert served.feed("u1")["fallback"] == "newest"
    # As if the model had answered until now.
    served.server.gateway.models.default.version = Version(1, False, False)
    times = []
    for number in range(12):
        begun = time.perf_counter()
        assert served.feed(f"u{number}")["fallback"] == "newest"
        times.append(time.perf_counter() - begun)
    assert max(times) < 2.0
    # Once the breaker is open, nobody waits but for one try each second.
    eventually(lambda: (served.feed("u0"), served.metric("belfry_breaker_open"))[1] == 1)
    times = []
    for number in range(12):
        begun = time.perf_counter()
        served.feed(f"u{number}")
        times.append(time.perf_counter() - begun)
    assert sorted(times)[6] < 0.15


def test_a_model_server_that_was_killed_is_found_again(
    run: Run, own_model: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    from serving.model_server import ModelServer, Options

    model = own_model()
    port = model.grpc_port
    served = run(f"grpc://127.0.0.1:{port}", answer_seconds=0.0)
    assert served.feed("u1")["fallback"] is None
    base = model.options.base_path
    model.stop()
    for number in range(10):
        assert served.feed(f"u{number}")["fallback"] in ("stale", "newest")
    with ModelServer(Options(model_name="feed", model_base_path=base, grpc_port=port, rest_port=None)):
        eventually(lambda: served.feed("u1")["fallback"] is None)


@pytest.mark.parametrize("where", ["postgresql"], indirect=True)
def test_a_database_that_is_away(run: Run, postgres: Any, eventually: Any) -> None:
    served = run(state_seconds=0.0, answer_seconds=0.0)
    served.click("u1", "i00")
    before = served.feed("u1", k=5)
    postgres.stop()
    try:
        event = {"event_id": "lost", "user_id": "u1", "item_id": "i04", "kind": "click"}
        for call in (
            lambda: served.http.post("/v1/events", json=event),
            lambda: served.http.put("/v1/items/x", json={}),
            lambda: served.http.delete("/v1/items/i00"),
            lambda: served.http.delete("/v1/users/u3"),
        ):
            answer = call()
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"]
            assert "u1" not in answer.text
        during = served.feed("u1", k=5)
        assert (during["fallback"], during["items"]) == ("stale", before["items"])
        assert served.feed("u2", k=5)["fallback"] == "newest"
    finally:
        postgres.start()
    eventually(lambda: served.http.post("/v1/events", json=event).status_code == 202)
    assert served.http.post("/v1/events", json=event).json() == {"accepted": 1, "new": 0}
    assert served.feed("u1", k=5)["fallback"] is None


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_a_full_disk_refuses_events_and_goes_on(run: Run) -> None:
    served = run()

    def limit(connection: Any, entry: Any) -> None:
        connection.execute("PRAGMA max_page_count=80").close()

    sa.event.listen(served.server.store.engine, "connect", limit)
    served.server.store.engine.dispose()
    events = [
        {"event_id": f"e{number}", "user_id": "u1", "item_id": "x" * 450, "kind": "click"} for number in range(900)
    ]
    answer = served.http.post("/v1/events", json={"events": events})
    assert (answer.status_code, "full" in answer.text) == (503, True)
    assert served.feed("u1")["fallback"] is None
    assert served.http.post("/v1/events", json=events[0]).json() == {"accepted": 1, "new": 1}


def test_redis_for_replicas_and_without_it(run: Run, redis: Any, eventually: Any) -> None:
    first = run(redis_url=redis.url, redis_ms=1_000, sync_seconds=30.0, category_share=1.0)
    second = run(redis_url=redis.url, redis_ms=1_000, sync_seconds=30.0, category_share=1.0)
    assert first.ids("u1", k=2) == second.ids("u1", k=2)
    assert second.metric('belfry_cache_total{cache="answer",result="hit"}') == 1
    first.click("u1", "i00")
    assert second.ids("u1", k=2) == ["i36", "i32"]
    redis.stop()
    try:
        assert second.ids("u1", k=2) == ["i36", "i32"]
        second.click("u1", "i36")
        assert second.ids("u1", k=2) == ["i32", "i28"]
        assert second.metric("belfry_cache_errors_total") >= 1
    finally:
        redis.start()
    import redis as package

    with package.Redis.from_url(redis.url) as client:
        # The gateway lets it rest for a moment after a failure.
        eventually(lambda: (second.ids("u7", k=1), client.keys("belfry:u:*"))[1])
        assert not [key for key in client.keys("*") if b"u7" in key]
        second.http.delete("/v1/users/u7")
        name = hashlib.sha256(b"u7").hexdigest()[:32].encode()
        assert not [key for key in client.keys("belfry:u:*") if name in key]
        eventually(lambda: not [key for key in client.keys("*") if name in key])


def test_what_was_acknowledged_is_there_after_a_stop(run: Run) -> None:
    """A stop in the middle of many senders: requests under way end, and nothing that was acknowledged is lost."""
    served = run()
    acknowledged: list[str] = []
    refused: list[int] = []

    def send(name: str) -> None:
        import httpx

        with httpx.Client(base_url=served.server.url) as client:
            for number in range(200):
                event = {"event_id": f"{name}-{number}", "user_id": "u", "item_id": "i00", "kind": "click"}
                try:
                    answer = client.post("/v1/events", json=event)
                except httpx.HTTPError:
                    return
                if answer.status_code != 202:
                    refused.append(answer.status_code)
                    return
                acknowledged.append(event["event_id"])

    senders = [threading.Thread(target=send, args=(f"s{place}",)) for place in range(6)]
    for sender in senders:
        sender.start()
    while len(acknowledged) < 100:
        time.sleep(0.01)
    where = served.server.settings.store_url.get_secret_value()
    served.server.stop()
    for sender in senders:
        sender.join()
    from serving.events import Store
    from serving.events.tables import EVENTS

    with Store(where) as store, store.reading() as connection:
        there = set(connection.execute(sa.select(EVENTS.c.event_id)).scalars())
    assert set(acknowledged) <= there
    assert len(acknowledged) < 1200
    assert set(refused) <= {503}
