"""Recommendations by a running gateway, on both kinds of store."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from serving.events import Store
from serving.events.tables import EVENTS, SLATES

Run = Callable[..., Any]
SPORT = [f"i{number:02}" for number in range(36, -1, -4)]


def test_a_click_changes_the_next_feed(run: Run) -> None:
    served = run(category_share=1.0)
    before = served.feed("u1", k=5)
    assert before["fallback"] is None
    assert before["model"] == {"name": "feed", "version": 1}
    assert [item["position"] for item in before["items"]] == [0, 1, 2, 3, 4]
    served.click("u1", "i00")
    after = served.feed("u1", k=5)
    assert [item["item_id"] for item in after["items"]] == SPORT[:5]
    assert {item["reason"] for item in after["items"]} == {"You read about sport"}
    served.click("u1", SPORT[0], kind="dislike")
    assert served.ids("u1", k=5) == SPORT[1:6]
    assert served.ids("u2", k=5) == [item["item_id"] for item in before["items"]]


def test_filters_exclusions_and_removals(run: Run) -> None:
    served = run()
    served.click("u1", "i00")
    assert served.ids("u1", k=4, filters={"categories": ["sport"], "languages": ["en"]}) == ["i32", "i24", "i16", "i08"]
    assert "i36" not in served.ids("u1", k=20, exclude=["i36"])
    assert served.http.delete("/v1/items/i36").json()["on_offer"] is False
    assert "i36" not in served.ids("u1", k=20)
    assert served.ids("u1", filters={"languages": ["fr"]}) == []


def test_what_filters_leave_too_short_is_filled_up_in_the_models_order(run: Run) -> None:
    served = run()
    served.click("u1", "i01")
    # The model gives 20 items, of which not all of these are.
    found = served.feed("u1", k=10, filters={"categories": ["weather"]})
    assert sorted(item["item_id"] for item in found["items"]) == [f"i{number:02}" for number in range(3, 40, 4)]
    scores = [item["score"] for item in found["items"]]
    assert scores == sorted(scores, reverse=True)


def test_no_category_has_more_than_its_share(run: Run) -> None:
    served = run(category_share=0.5)
    served.click("u1", "i00")
    found = served.ids("u1", k=6)
    assert [each for each in found if each in SPORT] == SPORT[:3]
    assert len(set(found)) == 6


def test_reasons_are_true(run: Run, eventually: Callable[..., None]) -> None:
    served = run(category_share=1.0, trend_seconds=0.05)
    served.click("u9", "i00")
    for user in ("u1", "u2", "u3"):
        served.click(user, "i02", "i36")
    now = datetime.now(UTC)
    for item, age in (("fresh", 1), ("older", 48)):
        published = (now - timedelta(hours=age)).isoformat()
        article = {"title": "z" * 300, "category": "food", "language": "en", "published_at": published}
        assert served.http.put(f"/v1/items/{item}", json=article).json()["live"] is True
    # A time that is still to come keeps an item back.
    later = article | {"published_at": (now + timedelta(hours=1)).isoformat()}
    assert served.http.put("/v1/items/later", json=later).json()["live"] is True

    def reasons() -> dict[str, str]:
        return {item["item_id"]: item["reason"] for item in served.feed("u9", k=50)["items"]}

    eventually(lambda: reasons()["i02"] == "Trending in en")
    found = reasons()
    assert found["i36"] == "You read about sport"
    assert found["fresh"] == "New"
    assert found["older"] == found["i01"] == "Recommended for you"
    assert "later" not in found


def test_a_feed_is_recorded_with_its_places(run: Run, where: Path | str, eventually: Callable[..., None]) -> None:
    served = run(variant="blue")
    feed = served.feed("u1", k=3, placement="sidebar", context={"device": "mobile", "language": "en"})
    with Store(where) as store:

        def slates() -> list[Any]:
            with store.reading() as connection:
                return list(connection.execute(sa.select(SLATES)).mappings())

        eventually(slates)
        (slate,) = slates()
    assert slate["request_id"] == feed["request_id"]
    assert (slate["user_id"], slate["placement"], slate["variant"], slate["version"]) == ("u1", "sidebar", "blue", 1)
    shown = [[i["item_id"], i["score"], i["position"], 1.0, i["reason"]] for i in feed["items"]]
    assert json.loads(slate["items"]) == shown


def test_a_new_item_is_recommended_at_once_and_by_every_replica(run: Run, eventually: Callable[..., None]) -> None:
    first, second = run(category_share=1.0), run(category_share=1.0)
    for served in (first, second):
        served.click("u1", "i00")
        assert "new" not in served.ids("u1", k=5)
    article = {"title": "y" * 200, "category": "sport", "language": "en"}
    assert first.http.put("/v1/items/new", json=article).json() == {"item_id": "new", "on_offer": True, "live": True}
    assert first.ids("u1", k=5)[0] == "new"
    eventually(lambda: second.ids("u1", k=5)[0] == "new")
    # It may stand in a history, and is then not recommended.
    second.click("u3", "new")
    assert second.ids("u3", k=5)[0] in SPORT
    second.http.delete("/v1/items/new")
    eventually(lambda: "new" not in first.ids("u1", k=20))


def test_an_answer_of_before_an_item_was_live_is_not_repeated(
    run: Run, eventually: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = run(category_share=1.0), run(category_share=1.0, answer_seconds=60.0)
    embedding = threading.Event()
    keeper = second.server.gateway.models.keeper
    embed_now = keeper._vectors

    async def later(*arguments: Any) -> Any:
        await asyncio.to_thread(embedding.wait)
        return await embed_now(*arguments)

    monkeypatch.setattr(keeper, "_vectors", later)
    second.click("u1", "i00")
    first.http.put("/v1/items/new", json={"title": "y" * 200, "category": "sport", "language": "en"})
    eventually(lambda: "new" in second.server.gateway.catalogue.items)
    assert "new" not in second.ids("u1", k=5)
    embedding.set()
    eventually(lambda: second.ids("u1", k=5)[0] == "new")


def test_a_changed_item_is_embedded_anew(run: Run) -> None:
    served = run(category_share=1.0)
    served.click("u1", "i00")
    assert served.ids("u1", k=1) == ["i36"]
    assert served.http.put("/v1/items/i36", json={"title": "x", "category": "food"}).json()["live"]
    found = served.ids("u1", k=20)
    assert found[0] == "i32"
    assert "i36" not in found[:6]


def test_more_live_items_than_the_model_is_shown(run: Run, eventually: Callable[..., None]) -> None:
    served = run(category_share=1.0, live_items=4)
    items = [{"item_id": f"n{number:02}", "title": "x", "category": "weather"} for number in range(12)]
    items += [{"item_id": "s", "title": "y" * 300, "category": "sport"}]
    assert served.http.post("/v1/items", json={"items": items}).json() == {"items": 13}
    eventually(lambda: served.http.get("/readyz").json()["live_items"] == 13)
    served.click("u1", "i00")
    assert served.ids("u1", k=3)[0] == "s"
    served.click("u2", "n00")
    assert served.ids("u2", k=3)[0] not in SPORT


def test_a_model_without_the_live_signature(
    run: Run, own_model: Callable[[bool], Any], eventually: Callable[..., None]
) -> None:
    served = run(own_model(False), category_share=1.0)
    served.click("u1", "i00")
    article = {"title": "y" * 10, "category": "sport", "language": "en"}
    assert served.http.put("/v1/items/new", json=article).json()["live"]
    found = served.feed("u1", k=10)["items"]
    scores = [item["score"] for item in found]
    assert "new" in [item["item_id"] for item in found]
    assert scores == sorted(scores, reverse=True)


def test_similar_items(run: Run) -> None:
    served = run()
    answer = served.http.get("/v1/items/i00/similar", params={"k": 3}).json()
    assert [item["item_id"] for item in answer["items"]] == SPORT[:3]
    assert {item["reason"] for item in answer["items"]} == {"More like i00"}
    answer = served.http.get("/v1/items/i00/similar", params={"k": 3, "language": "de"}).json()
    assert [item["item_id"] for item in answer["items"]] == ["i36", "i28", "i20"]
    assert served.http.get("/v1/items/nothing/similar").status_code == 404
    slashed = "a%2Fb%20c"
    served.http.put(f"/v1/items/{slashed}", json={"category": "sport"})
    assert served.http.get(f"/v1/items/{slashed}/similar").status_code == 200


def test_an_erased_user_starts_anew(run: Run, where: Path | str) -> None:
    served = run()
    new = served.ids("u1", k=5)
    served.click("u1", "i00", "i04")
    served.click("u2", "i00")
    assert served.ids("u1", k=5) != new
    assert served.http.delete("/v1/users/u1").json()["rows"] >= 2
    assert served.ids("u1", k=5) == new
    with Store(where) as store, store.reading() as connection:
        assert set(connection.execute(sa.select(EVENTS.c.user_id)).scalars()) == {"u2"}


def test_a_swap_of_models(run: Run, own_model: Callable[..., Any], tmp_path: Path, eventually: Any) -> None:
    served = run(own_model(), category_share=1.0)
    served.click("u1", "i00")
    served.http.put("/v1/items/new", json={"title": "y" * 200, "category": "sport"})
    base = tmp_path / "models" / "feed"
    shutil.copytree(base / "1", base / "2.draft")
    (base / "2.draft").rename(base / "2")
    versions = set()

    def swapped() -> bool:
        feed = served.feed("u1", k=5)
        assert feed["fallback"] is None
        versions.add(feed["model"]["version"])
        return feed["model"]["version"] == 2 and feed["items"][0]["item_id"] == "new"

    eventually(swapped)
    assert versions <= {1, 2}
    assert served.http.get("/readyz").json()["live_items"] == 1
