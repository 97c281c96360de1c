"""What an erasure reaches: requests under way, other replicas, what is written late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from serving.events import Store
from serving.events.tables import EVENTS, SLATES
from serving.gateway import erasures, gateway
from serving.gateway.catalogue import Wanted
from serving.gateway.feeds import Ask, Feed, Shown, StaleFeeds

Run = Callable[..., Any]


def users_in(where: Path | str) -> set[str]:
    with Store(where) as store, store.reading() as connection:
        return {
            user
            for table in (EVENTS, SLATES)
            for user in connection.execute(sa.select(table.c.user_id).distinct()).scalars()
        }


@pytest.mark.parametrize("erased", ["forget", "clear"])
def test_an_answer_under_way_is_not_kept_after_an_erasure(erased: str) -> None:
    stale = StaleFeeds(10, 10.0)
    ask = Ask("u", 2, "home", Wanted(), (), "", "", 0)
    began = stale.epoch
    stale.forget("u") if erased == "forget" else stale.clear()
    stale.keep(ask, Feed([Shown("a", 1.0, "")], 1), began)
    assert len(stale) == 0
    stale.keep(ask, Feed([Shown("a", 1.0, "")], 1), stale.epoch)
    assert len(stale) == 1


def test_what_another_replica_writes_late_is_erased_too(
    run: Run, where: Path | str, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasures, "ERASED_SECONDS", 0.5)
    monkeypatch.setattr(gateway, "_SWEEP_SECONDS", 0.05)
    first, second = run(), run()
    first.click("karl", "i00")
    first.http.delete("/v1/users/karl")
    # The other replica had taken these before it knew, and writes them after it.
    second.feed("karl")
    second.click("karl", "i04", at="2026-01-01T00:00:00Z")
    second.feed("other")
    eventually(lambda: {"karl", "other"} <= users_in(where), 5.0)
    eventually(lambda: users_in(where) == {"other"}, 5.0)
    assert first.server.gateway.erasures._erased == {}, "whom it erased is not remembered either"


def test_a_stop_finishes_an_erasure(run: Run, where: Path | str, eventually: Any) -> None:
    first, second = run(), run()
    first.http.delete("/v1/users/karl")
    second.feed("karl")
    eventually(lambda: users_in(where) == {"karl"})
    first.server.stop()
    assert users_in(where) == set()


def test_somebody_who_comes_back_keeps_what_they_did_since(run: Run, where: Path | str) -> None:
    served = run()
    served.click("karl", "i00")
    served.http.delete("/v1/users/karl")
    served.click("karl", "i04")
    served.server.stop()
    with Store(where) as store, store.reading() as connection:
        assert connection.execute(sa.select(EVENTS.c.item_id)).scalars().all() == ["i04"]


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_a_log_that_is_being_read_is_emptied_afterwards(
    run: Run, where: Path, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_SWEEP_SECONDS", 0.05)
    served = run()
    served.click("karl.k", "i00")
    served.feed("karl.k")
    with Store(where) as store, store.reading() as reader:
        reader.exec_driver_sql("BEGIN")
        reader.exec_driver_sql("SELECT count(*) FROM events").scalar()  # of the log as it is
        answer = served.http.delete("/v1/users/karl.k")
        assert (answer.status_code, answer.json()) == (202, {"rows": 2})
        assert b"karl.k" in b"".join(file.read_bytes() for file in where.iterdir())
        reader.exec_driver_sql("ROLLBACK")
    eventually(lambda: b"karl.k" not in b"".join(file.read_bytes() for file in where.iterdir()))


def test_a_log_that_is_read_for_long_is_asked_after_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Read:
        busy = True

        def forget_old_pages(self) -> bool:
            asked.append(second)
            return not self.busy

    async def at_once(function: Callable[[], bool]) -> bool:
        return function()

    nothing: Any = None
    store: Any = Read()
    going_on = erasures.Erasures(store, nothing, nothing, nothing, nothing, at_once)
    for second in range(100):
        asyncio.run(going_on.finish(second))
    assert asked[:4] == [0, 1, 3, 7]
    assert len(asked) < 12
    store.busy = False
    second = 200
    asyncio.run(going_on.finish(second))
    assert asked.pop() == second
    asyncio.run(going_on.finish(second + 100))
    assert asked[-1] < 100, "it is empty"


def test_redis_keeps_a_generation_longer_than_an_answer_may_take(redis: Any) -> None:
    from serving.gateway.caches import _FORGOTTEN_SECONDS
    from serving.gateway.settings import Settings

    longest = next(each.le for each in Settings.model_fields["deadline_ms"].metadata if hasattr(each, "le"))
    assert longest < _FORGOTTEN_SECONDS * 1000
    assert longest < erasures.ERASED_SECONDS * 1000


def test_one_users_entry_in_redis_is_bounded_and_models_do_not_share_answers(run: Run, redis: Any) -> None:
    import redis as package

    first = run(redis_url=redis.url, redis_ms=1_000, variant="blue")
    second = run(redis_url=redis.url, redis_ms=1_000, variant="green")
    first.feed("u1", k=2)
    second.feed("u1", k=2)
    assert second.metric('belfry_cache_total{cache="answer",result="hit"}') == 0
    assert second.metric('belfry_cache_total{cache="state",result="hit"}') == 1
    for number in range(40):
        first.feed("u1", k=2, exclude=[f"x{number}", "y" * 400])
    with package.Redis.from_url(redis.url) as client:
        for key in client.keys("belfry:u:*"):
            assert client.hlen(key) <= 16
            assert max(map(len, client.hkeys(key))) < 200


def test_what_was_dropped_while_redis_was_away_is_delivered_in_parts(redis: Any) -> None:
    from serving.gateway.caches import RedisCache
    from serving.gateway.metrics import Metrics

    async def check() -> None:
        cache = RedisCache(redis.url, Metrics(), 1.0, longest=60.0)
        users = [f"late{number}" for number in range(1_200)]
        entry = await cache.read(users[0])
        await cache.write(users[0], entry.generation, "state", b"old", 60)
        assert (await cache.read(users[0])).fields
        cache._away_until = time.monotonic() + 60
        await cache.drop(users)
        assert len(cache._undelivered) == 1_200
        cache._away_until = 0.0
        sizes = []
        drop = cache._drop

        async def counted(user_ids: list[str], seconds: int) -> bool:
            sizes.append(len(user_ids))
            return await drop(user_ids, seconds)

        cache._drop = counted  # type: ignore[method-assign]
        assert (await cache.read(users[0])).fields == {}
        assert sum(sizes) == 1_200
        assert max(sizes) <= 500
        # What nobody can have kept any more need not be delivered.
        cache._away_until = time.monotonic() + 60
        cache._longest = 0.0
        await cache.drop(["a"])
        await cache.drop(["b"])
        assert set(cache._undelivered) == {"b"}
        await cache.close()

    asyncio.run(check())
