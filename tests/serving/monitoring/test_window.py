"""A window's columns against what a reader of the rows would say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from serving.events import Store
from serving.monitoring.window import count_positives, read_window
from tests.serving.monitoring.conftest import DAY, HOUR, MICRO, START, Traffic, a_day


@pytest.mark.parametrize("page", [3, 7, 10_000])
def test_every_slate_of_the_window_is_read_with_what_came_of_it(store: Store, page: int) -> None:
    for number in range(3):
        a_day(number, 12).write(store)
    traffic = a_day(1, 12)
    window = read_window(store, START + DAY, START + 2 * DAY, page=page)
    expected = sorted(traffic.slates, key=lambda row: (row["at"], row["request_id"]))
    assert window.at.tolist() == [row["at"] for row in expected]
    assert window.user_ids[window.user].tolist() == [row["user_id"] for row in expected]
    for name in ("language", "device", "variant", "placement", "model"):
        assert window.labels[name].tolist() == [row[name] for row in expected]
    assert set(window.labels["fallback"]) == {""}
    shown = [entry for row in expected for entry in json.loads(row["items"])]
    assert window.item_ids[window.item].tolist() == [entry[0] for entry in shown]
    assert window.score.tolist() == [entry[1] for entry in shown]
    dwell = {(event["request_id"], event["item_id"]): event["dwell_seconds"] for event in traffic.events}
    asked = [(row["request_id"], entry[0]) for row in expected for entry in json.loads(row["items"])]
    assert window.wanted.tolist() == [key in dwell for key in asked]
    np.testing.assert_array_equal(window.dwell, [dwell.get(key, np.nan) for key in asked])
    assert np.isnan(window.latency_ms).all()


def test_a_late_click_counts_until_the_lag_is_over(store: Store) -> None:
    traffic = Traffic()
    end = START + DAY
    request = traffic.slate("u1", end - MICRO, ["i01", "i02", "i03"])
    traffic.event("u1", "i01", end + HOUR - 1, request_id=request, dwell_seconds=5.0)
    traffic.event("u1", "i01", end + HOUR - 1, "read", request_id=request, dwell_seconds=31.0)
    traffic.event("u1", "i02", end + HOUR, request_id=request)
    traffic.event("u1", "i03", end, "dislike", request_id=request)
    traffic.event("u1", "i39", end, request_id=request)  # not shown there
    traffic.event("u1", "i03", end, request_id="of another time")
    traffic.write(store)
    window = read_window(store, START, end)
    assert window.wanted.tolist() == [True, False, False]
    assert window.dwell[0] == 31.0
    assert read_window(store, START, end, lag_seconds=0).wanted.sum() == 0
    assert read_window(store, START, end, lag_seconds=3_601).wanted.tolist() == [True, True, False]


def test_low_ratings_are_not_wanted_where_that_is_said(store: Store) -> None:
    traffic = Traffic()
    request = traffic.slate("u1", START, ["i01", "i02"])
    traffic.event("u1", "i01", START + 1, "rating", request_id=request, value=2.0)
    traffic.event("u1", "i02", START + 1, "rating", request_id=request, value=4.0)
    traffic.write(store)
    assert read_window(store, START, START + DAY).wanted.all()
    assert read_window(store, START, START + DAY, positive_rating=3.0).wanted.tolist() == [False, True]
    assert count_positives(store, START, START + DAY) == 2
    assert count_positives(store, START, START + DAY, 3.0) == 1


def test_known_users_and_the_items_on_offer(store: Store) -> None:
    traffic = Traffic()
    for user in ("old", "new", "same"):
        traffic.slate(user, START + HOUR, ["i01", "gone"])
    traffic.event("old", "i01", START - 1)
    traffic.event("same", "i01", START)
    traffic.write(store)
    window = read_window(store, START, START + 2 * HOUR)
    known = dict(zip(window.user_ids, window.known, strict=True))
    assert known == {"old": True, "new": False, "same": False}
    # i00 was removed before, i38 and i39 come after the window.
    assert window.offered == 37
    assert dict(zip(window.item_ids, window.category, strict=True)) == {"i01": "food", "gone": ""}
    assert window.since.tolist() == [START - 35 * HOUR, 0]


def test_a_time_without_traffic_is_a_window_too(store: Store) -> None:
    window = read_window(store, START, START + DAY)
    assert len(window) == len(window.user_ids) == len(window.item) == 0
    assert window.offsets.tolist() == [0]
