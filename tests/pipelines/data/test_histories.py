"""Histories and slates against a plain loop over the events."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.data import schema
from pipelines.data.dataset import Dataset
from pipelines.data.histories import Behaviour, load_behaviour
from pipelines.errors import BadInput

Row = dict[str, Any]
Make = Callable[..., Dataset]
ITEMS = [{"item_id": f"i{number}"} for number in range(4)]
IDS = np.array([item["item_id"] for item in ITEMS], dtype=object)


def any_log(seed: int) -> list[Row]:
    """Events with every oddity: few moments, shared request ids, repeats, gaps, unknown items."""
    rng = np.random.default_rng(seed)
    values: Row = {
        "user_id": ["a", "B", "é"],
        "item_id": [*IDS, "not in the catalogue"],
        "kind": ["impression", "impression", "impression", "click", *schema.KINDS],
        "at": [-1.5, 0, 1, 1.4, 1.6, 2, 3, 1e9],
        "request_id": [None, "r1", "r2", "r3", "e1"],  # one request is called like an event
        "position": [None, 0, 1, 2],
        "dwell_seconds": [None, 0.0, 2.5, 40.0],
        "scroll_depth": [None, 0.0, 0.5, 1.0],
        "device": [None, None, "mobile", "desktop"],
        "value": [None, 2.0, 3.5, 5.0],
    }
    size = int(rng.integers(1, 120))
    return [{name: some[rng.integers(len(some))] for name, some in values.items()} for _ in range(size)]


@dataclass
class Expected:
    """What `load_behaviour` should find, as plain rows."""

    users: list[str]
    positives: list[Row]  # user, item, at, dwell, scroll, device, request (user, id) or None, sees: how many
    requests: list[Row]  # user, id, at, device, sees, shown: [(item, clicked, read, liked)]
    unknown: int


def by_hand(events: list[Row], threshold: float | None = None) -> Expected:
    users = sorted({event["user_id"] for event in events})
    found: dict[tuple[Any, ...], Row] = {}
    for order, event in enumerate(events):
        if event["kind"] not in schema.POSITIVE_KINDS:
            continue
        value = event.get("value")
        if event["kind"] == "rating" and threshold is not None and (value is None or value < threshold):
            continue
        request = event.get("request_id")
        key = (event["user_id"], event["item_id"], request, order if request is None else None)
        row = found.setdefault(key, {"at": event["at"], "order": order, "dwell": 0.0, "scroll": 0.0, "devices": set()})
        row["at"], row["dwell"] = min(row["at"], event["at"]), max(row["dwell"], event.get("dwell_seconds") or 0.0)
        row["scroll"] = max(row["scroll"], event.get("scroll_depth") or 0.0)
        row["devices"] |= {event.get("device")} - {None}
        row["read"] = row.get("read", False) or event["kind"] == "read" or (event.get("dwell_seconds") or 0.0) >= 30
        row["liked"] = row.get("liked", False) or event["kind"] in ("like", "share", "save")
    positives = [
        {"user": user, "item": item, "request": None if request is None else (user, request), **row}
        for (user, item, request, _), row in found.items()
    ]
    clicked = {(row["request"], row["item"]): (row["read"], row["liked"]) for row in positives}
    known = [row for row in positives if row["item"] in IDS]
    known.sort(key=lambda row: (row["user"], row["at"], row["order"]))
    histories = {user: [row for row in known if row["user"] == user] for user in users}
    for history in histories.values():
        for place, row in enumerate(history):
            earlier = sum(math.floor(other["at"]) < math.floor(row["at"]) for other in history)
            row["sees"] = place if row["request"] is None else earlier
    slates: dict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
    devices: dict[tuple[str, str] | None, set[str]] = defaultdict(set)
    for order, event in enumerate(events):
        if event["kind"] == "impression" and event.get("request_id") is not None:
            position = event.get("position")
            place = math.inf if position is None else position
            key = (event["user_id"], event["request_id"])
            slates[key].append((place, order, event["item_id"], event["at"]))
            devices[key] |= {event.get("device")} - {None}
    for row in known:
        row["device"] = min(row["devices"] or devices[row["request"]] or {""})
    requests = []
    for (user, name), rows in slates.items():
        at, order = min(row[3] for row in rows), min(row[1] for row in rows)
        sees = sum(math.floor(row["at"]) < math.floor(at) for row in histories[user])
        shown = [
            (item, ((user, name), item) in clicked, *clicked.get(((user, name), item), (False, False)))
            for _, _, item, _ in sorted(rows)
        ]
        row = {"user": user, "id": name, "at": at, "order": order, "sees": sees, "shown": shown}
        requests.append(row | {"device": min(devices[user, name] or {""})})
    requests.sort(key=lambda row: (row["at"], row["order"]))
    return Expected(users, known, requests, len(positives) - len(known))


def assert_same(found: Behaviour, expected: Expected) -> None:
    log, requests = found.interactions, found.requests
    assert list(log.user_ids) == expected.users
    assert found.unknown == expected.unknown
    assert len(log) == len(expected.positives)
    place = {(row["user"], row["id"]): number for number, row in enumerate(expected.requests)}
    sizes = np.bincount([expected.users.index(row["user"]) for row in expected.positives], minlength=len(log.user_ids))
    assert list(log.user_offsets) == [0, *np.cumsum(sizes)]
    for number, row in enumerate(expected.positives):
        assert log.user_ids[log.user[number]] == row["user"]
        assert IDS[log.item[number] - 1] == row["item"]
        assert (log.at[number], log.dwell[number]) == (math.floor(row["at"]), row["dwell"])
        assert (log.scroll[number], log.device[number]) == (row["scroll"], row["device"])
        assert log.request[number] == place.get(row["request"], -1)
        assert log.history_end[number] - log.user_offsets[log.user[number]] == row["sees"]
    assert len(requests) == len(expected.requests)
    for number, row in enumerate(expected.requests):
        assert (requests.ids[number], log.user_ids[requests.user[number]]) == (row["id"], row["user"])
        assert (requests.at[number], requests.device[number]) == (math.floor(row["at"]), row["device"])
        assert requests.history_end[number] - log.user_offsets[requests.user[number]] == row["sees"]
        slate = slice(requests.offsets[number], requests.offsets[number + 1])
        shown = (requests.item_ids, requests.clicked, requests.read, requests.liked)
        assert list(zip(*(values[slate] for values in shown), strict=True)) == row["shown"]
        items = [list(IDS).index(item) + 1 if item in IDS else 0 for item, *_ in row["shown"]]
        assert list(requests.item[slate]) == items


@pytest.mark.parametrize("threshold", [None, 3.5])
@pytest.mark.parametrize("seed", range(12))
def test_any_log_gives_what_a_plain_loop_finds(make_dataset: Make, seed: int, threshold: float | None) -> None:
    events = any_log(seed)
    assert_same(load_behaviour(make_dataset(events, ITEMS), IDS, positive_rating=threshold), by_hand(events, threshold))


def event(user: str, item: str, kind: str = "click", at: float = 0, **more: Any) -> Row:
    return {"user_id": user, "item_id": item, "kind": kind, "at": at, **more}


def test_click_read_and_like_of_one_showing_are_one_positive(make_dataset: Make) -> None:
    shown = {"request_id": "r"}
    events = [
        event("a", "i1", "impression", 10, **shown),
        event("a", "i1", "click", 11, **shown),
        event("a", "i1", "read", 50, dwell_seconds=38.0, **shown),
        event("a", "i1", "like", 51, **shown),
        event("a", "i1", "click", 90),
    ]
    log = load_behaviour(make_dataset(events, ITEMS), IDS).interactions
    assert list(zip(log.at, log.dwell, log.request, strict=True)) == [(11, 38.0, 0), (90, 0.0, -1)]


def test_a_click_outside_of_slates_is_not_merged_with_a_request_of_its_name(make_dataset: Make) -> None:
    events = [
        event("a", "i1", "click", 1, event_id="7"),
        event("a", "i1", "impression", 5, event_id="8", request_id="7"),
        event("a", "i1", "click", 5, event_id="9", request_id="7"),
    ]
    log = load_behaviour(make_dataset(events, ITEMS), IDS).interactions
    assert list(zip(log.at, log.request, strict=True)) == [(1, -1), (5, 0)]


def test_two_users_may_share_a_request_id(make_dataset: Make) -> None:
    events = [
        event("a", "i1", "impression", 1, request_id="r"),
        event("b", "i1", "impression", 1, request_id="r"),
        event("b", "i2", "impression", 1, request_id="r"),
        event("b", "i1", "click", 2, request_id="r"),
    ]
    found = load_behaviour(make_dataset(events, ITEMS), IDS)
    assert list(found.requests.offsets) == [0, 1, 3]
    assert list(found.requests.clicked) == [False, True, False]
    assert list(found.interactions.request) == [1]


def test_users_without_positives_have_an_empty_history(make_dataset: Make) -> None:
    events = [event("a", "i1", "dislike"), event("b", "i1"), event("c", "i1", "impression", 5, request_id="r")]
    found = load_behaviour(make_dataset(events, ITEMS), IDS)
    assert list(found.interactions.user_offsets) == [0, 0, 1, 1]
    assert list(found.requests.history_end) == [1]


@pytest.mark.parametrize("kind", ["impression", "dislike"])
def test_a_dataset_without_positives(make_dataset: Make, kind: str) -> None:
    found = load_behaviour(make_dataset([event("a", "i1", kind, request_id="r")], ITEMS), IDS)
    assert (len(found.interactions), list(found.interactions.user_offsets)) == (0, [0, 0])
    assert len(found.requests) == (kind == "impression")


def test_loading_opens_no_engine_but_its_own(make_dataset: Make) -> None:
    load_behaviour(make_dataset([event("a", "i1")], ITEMS), IDS)
    assert ibis.options.default_backend is None


def test_a_dataset_without_requests(make_dataset: Make) -> None:
    found = load_behaviour(make_dataset([event("a", "i1"), event("a", "i2", "impression")], ITEMS), IDS)
    assert (len(found.requests), list(found.requests.offsets), len(found.requests.item)) == (0, [0], 0)
    assert list(found.interactions.request) == [-1]


def test_languages_are_those_of_the_users_table(make_dataset: Make) -> None:
    events = [event("a", "i1"), event("b", "i1"), event("c", "i1")]
    users = [{"user_id": "c", "language": "de"}, {"user_id": "a"}, {"user_id": "not in the log", "language": "fr"}]
    known = load_behaviour(make_dataset(events, ITEMS, users), IDS).interactions
    assert list(known.user_language) == ["", "", "de"]
    assert list(load_behaviour(make_dataset(events, ITEMS), IDS).interactions.user_language) == ["", "", ""]


def test_an_older_dataset_without_devices_reads_as_unknown(make_dataset: Make) -> None:
    shown = {"request_id": "r", "device": "mobile"}
    events = [event("a", "i1", "impression", 1, **shown), event("a", "i1", "click", 2, **shown)]
    dataset = make_dataset(events, ITEMS)
    pq.write_table(pq.read_table(dataset.events).drop(["device"]), dataset.events)
    found = load_behaviour(Dataset.open(dataset.folder), IDS)
    assert (list(found.interactions.device), list(found.requests.device)) == ([""], [""])
    assert (list(found.interactions.item), list(found.requests.clicked)) == ([2], [True])


def test_row_order_is_a_clock(make_dataset: Make) -> None:
    events = [event("a", f"i{number % 4}", at=number + 1) for number in range(9)]
    log = load_behaviour(make_dataset(events, ITEMS, clock="row order"), IDS).interactions
    assert list(log.at) == list(range(1, 10))
    assert list(log.history_end) == list(range(9))


def test_the_order_of_the_catalogue_numbers_the_items(make_dataset: Make) -> None:
    dataset = make_dataset([event("a", "i1"), event("a", "i3", at=1)], ITEMS)
    assert list(load_behaviour(dataset, IDS[::-1]).interactions.item) == [3, 1]


@pytest.mark.parametrize("name", ["events", "users"])
def test_a_file_that_breaks_in_the_middle_is_bad_input(make_dataset: Make, name: str) -> None:
    users = [{"user_id": f"user {number}", "language": "en"} for number in range(50)]
    dataset = make_dataset([event(user["user_id"], "i1") for user in users], ITEMS, users)
    path = dataset.folder / f"{name}.parquet"
    content = bytearray(path.read_bytes())
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")  # where the footer begins
    content[4:end] = b"\xff" * (end - 4)
    path.write_bytes(content)
    with pytest.raises(BadInput, match=rf"{name}\.parquet is broken: import the dataset again"):
        load_behaviour(Dataset.open(dataset.folder), IDS)
