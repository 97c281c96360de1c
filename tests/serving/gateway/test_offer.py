"""What may be shown: by the server's clock, and whatever the store knew of an item before."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from serving.client import BadCall
from serving.events import Store
from serving.events.items import put_items
from serving.gateway.catalogue import Catalogue

Run = Callable[..., Any]


def test_a_requests_time_shows_neither_what_is_to_come_nor_what_was_removed(run: Run) -> None:
    served = run()
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    secret = {"title": "y" * 400, "category": "sport", "published_at": later}
    assert served.http.put("/v1/items/secret", json=secret).status_code == 200
    served.http.delete("/v1/items/i36")
    for moment in (4_000_000_000, 0, 1, int(time.time())):
        for more in ({}, {"filters": {"categories": ["sport"]}}):
            found = served.feed(f"u{moment}", k=50, context={"time_seconds": moment}, **more)["items"]
            assert len(found) >= 9
            assert not {"secret", "i36"} & {item["item_id"] for item in found}


def test_without_a_model_neither(run: Run) -> None:
    served = run("http://127.0.0.1:1", ready=False)
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    served.http.put("/v1/items/secret", json={"published_at": later})
    served.http.delete("/v1/items/i39")
    for moment in (4_000_000_000, 0):
        assert served.ids("u", k=2, context={"time_seconds": moment}) == ["i38", "i37"]


def test_an_item_that_only_the_model_knows_can_be_taken_off_offer(
    toy_server: Any, where: Path | str, run: Run, eventually: Any
) -> None:
    from sqlalchemy import text

    with Store(where) as store, store.writing() as connection:
        connection.execute(text("DELETE FROM items WHERE item_id = 'i36'"))
    served = run()
    served.click("u1", "i00")
    assert served.ids("u1", k=1) == ["i36"]
    assert served.http.delete("/v1/items/i36").json()["on_offer"] is False
    assert "i36" not in served.ids("u1", k=20)
    assert served.http.get("/v1/items/i36/similar").status_code == 404


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_an_item_that_cannot_be_embedded_holds_up_no_other(
    run: Run, own_model: Callable[..., Any], eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    served = run(own_model(), category_share=1.0)
    model = served.server.gateway.models.default
    embed = model.embed_items

    async def picky(version: int, items: Any) -> Any:
        if any(item.item_id == "broken" for item in items):
            raise BadCall("INVALID_ARGUMENT", "no image of karl.k")
        return await embed(version, items)

    model.embed_items = picky
    items = [{"item_id": name, "title": "y" * 300, "category": "sport"} for name in ("a", "broken", "c")]
    assert served.http.post("/v1/items", json={"items": items}).status_code == 200
    eventually(lambda: served.http.get("/readyz").json()["live_items"] == 2, 5.0)
    assert "1 item cannot be embedded" in caplog.text


def test_an_import_beside_it_is_taken_over_in_slices(
    run: Run, where: Path | str, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, apply = [], Catalogue.apply

    def counted(self: Catalogue, changes: Any) -> None:
        taken.append(len(changes))
        apply(self, changes)

    monkeypatch.setattr(Catalogue, "apply", counted)
    served = run()
    before, taken[:] = served.http.get("/readyz").json()["items"], []
    now = time.time_ns() // 1000
    with Store(where) as store:
        put_items(store, [{"item_id": f"new{each}", "language": "en", "published_at": now} for each in range(1_200)], 1)
    eventually(lambda: served.http.get("/readyz").json()["items"] == before + 1_200)
    assert sum(taken) >= 1_200
    assert max(taken) <= 500, "requests wait for each"
