"""The gateway's parts by themselves: batching, the breaker, caches, the catalogue, diversity."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.events.items import ItemFacts
from serving.events.users import state_of
from serving.gateway.batching import Batcher
from serving.gateway.breaker import Breaker
from serving.gateway.caches import LocalCache
from serving.gateway.catalogue import Catalogue, Wanted
from serving.gateway.diversify import diversify
from serving.gateway.errors import ModelAway
from serving.gateway.feeds import Ask, Feed, Shown, StaleFeeds
from serving.gateway.guard import route_of
from serving.gateway.live_items import LiveItems, LiveSet

Run = Callable[[Sequence[int]], Awaitable[Sequence[int]]]


def facts(item_id: str, published_at: int = 0, **more: Any) -> ItemFacts:
    values: dict[str, Any] = {"language": "en", "category": "c", "tags": (), "removed_at": 0, "put_at": 0, "changed": 1}
    return ItemFacts(item_id, published_at=published_at, **values | more)


def test_requests_that_come_during_a_call_share_the_next() -> None:
    sizes: list[int] = []

    async def run(batch: Sequence[int]) -> Sequence[int]:
        sizes.append(len(batch))
        await asyncio.sleep(0.01)
        return [10 * each for each in batch]

    async def ask() -> None:
        batcher: Batcher[int, int] = Batcher(run, most=8, at_once=1, most_waiting=100)
        answers = await asyncio.gather(*(batcher.ask(number) for number in range(30)))
        assert answers == [10 * number for number in range(30)]

    asyncio.run(ask())
    assert max(sizes) == 8
    assert sum(sizes) == 30
    assert len(sizes) <= 5


def test_a_failed_call_fails_its_batch_alone_and_who_gave_up_is_not_asked_for() -> None:
    asked: list[int] = []

    async def ask() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def run(batch: Sequence[int]) -> Sequence[int]:
            asked.extend(batch)
            begun.set()
            await go_on.wait()
            if 0 in batch:
                raise ModelAway("no")
            return list(batch)

        batcher: Batcher[int, int] = Batcher(run, most=2, at_once=1, most_waiting=3)
        first = asyncio.create_task(batcher.ask(0))
        await begun.wait()
        others = [asyncio.create_task(batcher.ask(number)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(ModelAway, match="Too many"):
            await batcher.ask(4)
        others[1].cancel()
        go_on.set()
        with pytest.raises(ModelAway, match="no"):
            await first
        assert await others[0] == 1
        assert await others[2] == 3

    asyncio.run(ask())
    assert asked == [0, 1, 3]


def test_a_breaker_opens_tries_and_closes() -> None:
    now = [0.0]
    breaker = Breaker(failures=2, retry_seconds=1.0, clock=lambda: now[0])
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert breaker.is_open
    assert not breaker.allows()
    now[0] = 1.5
    assert breaker.allows()
    assert not breaker.allows()
    breaker.failed()
    now[0] = 2.6
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows()
    assert not breaker.is_open


def test_what_was_read_before_an_event_is_not_kept_after_it() -> None:
    async def check() -> None:
        now = [0.0]
        cache = LocalCache(2, clock=lambda: now[0])
        entry = await cache.read("u")
        await cache.write("u", entry.generation, "state", b"1", 10)
        assert (await cache.read("u")).fields == {"state": b"1"}
        await cache.drop(["u"])
        await cache.write("u", entry.generation, "state", b"1", 10)
        assert (await cache.read("u")).fields == {}
        entry = await cache.read("u")
        await cache.write("u", entry.generation, "state", b"2", 10)
        now[0] = 11.0
        assert (await cache.read("u")).fields == {}
        for user in ("a", "b", "c"):
            await cache.write(user, (await cache.read(user)).generation, "state", b"x", 10)
        assert len(cache) == 2
        assert (await cache.read("a")).fields == {}
        entry = await cache.read("d")
        await cache.forget("d")
        await cache.write("d", entry.generation, "state", b"x", 10)
        assert (await cache.read("d")).fields == {}

    asyncio.run(check())


_changes = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 5), st.booleans(), st.sampled_from(["a", "b"])), max_size=30
)


@given(_changes, st.lists(st.integers(1, 5), max_size=30))
def test_the_newest_are_the_newest_whatever_changed(changes: list[Any], cuts: list[int]) -> None:
    items = [
        facts(f"i{number}", published * 100, removed_at=int(removed), category=category, changed=place)
        for place, (number, published, removed, category) in enumerate(changes)
    ]
    catalogue, rest = Catalogue(), list(items)
    for cut in [*cuts, len(items) + 1]:
        catalogue.apply(rest[:cut])
        catalogue.newest(Wanted(), 3, 1_000)
        rest = rest[cut:]
    latest = {item.item_id: item for item in items}
    offered = sorted((i for i in latest.values() if not i.removed_at), key=lambda i: (-i.published_at, i.item_id))
    assert catalogue.newest(Wanted(), 100, 1_000) == [item.item_id for item in offered]
    only = Wanted(categories=frozenset(["a"]))
    assert catalogue.newest(only, 100, 1_000) == [item.item_id for item in offered if item.category == "a"]
    early = [item.item_id for item in offered if item.published_at <= 200]
    assert catalogue.newest(Wanted(), 2, 200) == early[:2]
    assert set(catalogue.removed(100)) == {item.item_id for item in latest.values() if item.removed_at}


@given(st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=40), st.integers(1, 12), st.floats(0.05, 1))
def test_a_cap_on_categories(categories: list[str], k: int, share: float) -> None:
    items = list(range(len(categories)))
    chosen = diversify(items, categories, k, share)
    assert len(chosen) == len(set(chosen)) == min(k, len(items))
    counts = Counter(categories[each] for each in chosen if categories[each])
    most = max(1, int(np.ceil(k * share)))
    # Over the cap only where nothing else was left.
    others = [each for each in items if each not in chosen]
    for category, count in counts.items():
        if count > most:
            assert all(categories[each] and counts[categories[each]] >= most for each in others), category
    if share == 1:
        assert chosen == items[:k]


def test_stale_feeds_lose_what_was_seen() -> None:
    now = [0.0]
    stale = StaleFeeds(1, 10.0, clock=lambda: now[0])
    ask = Ask("u", 2, "home", Wanted(), (), "", "", 0)
    stale.keep(ask, Feed([Shown("a", 1.0, ""), Shown("b", 0.5, "")], 1), stale.epoch)
    stale.saw("u", {"a"})
    kept = stale.find(ask)
    assert kept is not None
    assert [each.item_id for each in kept.items] == ["b"]
    assert stale.find(ask._replace(placement="other")) is None
    assert stale.find(ask._replace(language="de")) is None
    stale.keep(ask._replace(user_id="v"), kept, stale.epoch)
    assert stale.find(ask) is None
    now[0] = 11.0
    assert stale.find(ask._replace(user_id="v")) is None


def test_live_items_for_a_user_and_in_a_batch() -> None:
    live = LiveItems(1, most=5)
    for number in range(6):
        live.put(facts(f"n{number}", number * 10**6, tags=("t",) * number), np.eye(6, dtype=np.float32)[number])
    assert len(live) == 5
    assert "n0" not in live
    user = np.array([0, 0, 1, 2, 3, 4], np.float32)
    chosen = live.chosen(4, user, ["n1", "x"], {"n5"})
    assert chosen.ids.tolist() == ["n1", "n4", "n3", "n2"]
    assert live.chosen(4, None, [], set()).ids.tolist() == ["n5", "n4", "n3", "n2"]
    inputs = LiveSet.batch([chosen, None, live.chosen(9, None, [], set())])
    assert inputs["live_ids"].shape == (3, 5)
    assert inputs["live_ids"][1].tolist() == [""] * 5
    assert inputs["live_embeddings"].shape == (3, 5, 6)
    assert inputs["live_tags"].shape == (3, 5, 5)
    assert inputs["live_published_seconds"][0].tolist() == [1, 4, 3, 2, 0]


def test_an_item_without_a_date_is_as_old_as_its_put() -> None:
    live = LiveItems(1, most=2)
    for name, published, put in (("a", 50, 50), ("b", 60, 60), ("new", 0, 99)):
        live.put(facts(name, published, put_at=put), np.zeros(2, np.float32))
    assert ("new" in live, "a" in live) == (True, False)


def test_every_path_needs_a_scope_but_the_service_ones() -> None:
    for path in ("/", "/v1", "/v1/items", "/v1/items/similar", "/v1/users/", "/v1/anything", "/docs"):
        assert route_of("POST", path).scope is not None
    for path in ("/", "/console/feed.js"):
        assert route_of("GET", path).scope is None, "pages without anything in them"
        assert route_of("POST", path).scope is not None
    assert route_of("GET", "/v1/items/a/similar").scope == "recommend"
    assert route_of("PUT", "/v1/items/a/similar").scope == "items"
    assert route_of("DELETE", "/v1/users/karl").name == "/v1/users/{user_id}"


_row = st.tuples(
    *(st.sampled_from("abc"), st.sampled_from(["click", "read", "dislike", "rating"]), st.integers(0, 9)),
    *(
        st.sampled_from([None, "r"]),
        st.sampled_from([None, 3.0]),
        st.none(),
        st.sampled_from([None, 1.0, 5.0]),
        st.none(),
    ),
)


@given(st.lists(_row, max_size=20), st.integers(0, 5))
def test_a_state_is_in_order_and_bounded(rows: list[Any], history: int) -> None:
    rows.sort(key=lambda row: -row[2])
    state = state_of(rows, history=history, positive_rating=3.0)
    assert len(state.item_ids) <= history
    assert len({*map(len, state[:4])}) == 1
    assert state.at_seconds == sorted(state.at_seconds)
    assert set(state.item_ids) <= set(state.seen)
    assert len(state.seen) == len(set(state.seen))
