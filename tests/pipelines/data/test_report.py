from __future__ import annotations

import json

import pytest

from pipelines.data.report import ImportReport, TableCount


def report() -> ImportReport:
    found = ImportReport()
    events = found.table("events")
    events.read, events.kept = 1003, 1000
    events.drop("too late", 2)
    events.drop("no id")
    events.note("odd", 5)
    found.table("items").read = found.table("items").kept = 4
    return found


def test_a_report_tells_every_table_in_the_order_of_reading() -> None:
    assert report().lines() == [
        "events: 1,003 read, 1,000 kept, 3 dropped",
        "  dropped 1: no id",
        "  dropped 2: too late",
        "  kept 5 though: odd",
        "items: 4 read, 4 kept, 0 dropped",
    ]


def test_a_report_is_plain_data() -> None:
    content = json.loads(json.dumps(report().as_dict()))
    assert list(content) == ["events", "items"]
    assert content["events"] == {
        "read": 1003,
        "kept": 1000,
        "dropped": {"no id": 1, "too late": 2},
        "noted": {"odd": 5},
    }


def test_reasons_add_up_and_nothing_is_no_reason() -> None:
    count = TableCount()
    count.drop("late")
    count.drop("late", 3)
    count.drop("never", 0)
    count.note("never", 0)
    assert (dict(count.dropped), dict(count.noted)) == ({"late": 4}, {})


def test_a_row_that_vanishes_is_an_error() -> None:
    found = report()
    found.check()
    found.table("items").read += 1
    with pytest.raises(AssertionError, match="items: 5 rows read, but 4 kept and 0 dropped"):
        found.check()
