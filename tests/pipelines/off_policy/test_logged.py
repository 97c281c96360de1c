"""Which answers count, and what was known of a user when they got them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from pipelines.off_policy.logged import explored_slates
from serving.events import Store
from serving.events.tables import EVENTS, SLATES
from serving.events.users import read_states_before


def slate(number: int, **more: Any) -> dict[str, Any]:
    items = [["a", 1.0, 0, 0.9, ""], ["b", 0.5, 1, 0.1, ""]]
    row = {"request_id": f"r{number}", "user_id": "u", "at": 1_000_000 * number, "placement": "home", "variant": "x"}
    row |= {"version": 1, "fallback": None, "language": "de", "device": None, "items": orjson.dumps(items).decode()}
    return row | more


def event(number: int, item: str, at: int, **more: Any) -> dict[str, Any]:
    row = {"event_id": f"e{number}", "user_id": "u", "item_id": item, "kind": "click", "at": at, "request_id": None}
    return row | {"dwell_seconds": 3.0, "device": "mobile"} | more


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / "store") as opened:
        yield opened


def test_answers_that_were_left_to_chance(store: Store) -> None:
    certain = orjson.dumps([["a", 1.0, 0, 1.0, ""]]).decode()
    rows = [
        slate(1),
        slate(2, fallback="stale"),
        slate(3, variant="e:interleaved"),
        slate(4, items=certain),
        slate(5),
        slate(9),
    ]
    with store.writing() as connection:
        connection.execute(SLATES.insert(), rows)
        connection.execute(EVENTS.insert(), [event(1, "b", 1_500_000, request_id="r1")])
    found = explored_slates(store, 0, 8_000_000, most=10)
    assert [each.request_id for each in found] == ["r1", "r5"]
    assert found[0].items == ["a", "b"]
    assert found[0].propensity == [0.9, 0.1]
    assert found[0].wanted == [False, True]
    assert found[1].wanted == [False, False]
    few = explored_slates(store, 0, 10_000_000, most=2)
    assert len(few) == 2
    assert few == explored_slates(store, 0, 10_000_000, most=2)


def test_a_state_is_of_what_came_before(store: Store) -> None:
    events = [event(1, "a", 1_000_000), event(2, "b", 2_000_000), event(3, "c", 3_000_000, kind="dislike")]
    with store.writing() as connection:
        connection.execute(SLATES.insert(), [slate(2, at=2_000_000), slate(5)])
        connection.execute(EVENTS.insert(), events)
    slates = explored_slates(store, 0, 10_000_000, most=10)
    asked = [(each.user_id, each.at) for each in slates]
    first, second = read_states_before(store, asked, history=10, seen=10)
    assert (first.item_ids, first.seen, first.device) == (["a"], ["a"], "mobile")
    assert (second.item_ids, second.seen) == (["a", "b"], ["c", "b", "a"])
