"""Windows observed one after the other, on both kinds of store."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from serving.client import Unavailable
from serving.events import BadStore, Store
from serving.events.tables import MEASURES, METADATA, MONITORS
from serving.events.users import erase
from serving.monitoring import (
    Fingerprint,
    Measure,
    Observation,
    Rule,
    Rules,
    alerts,
    due_windows,
    evaluate_rules,
    last_window,
    observe,
    read_measures,
)
from serving.monitoring.features import Samples
from serving.monitoring.records import read_state, unjudged_windows
from tests.serving.monitoring.conftest import DAY, HISTORY, HOUR, MICRO, START, Traffic, a_day, the_past


def vectors(samples: Samples, version: int) -> np.ndarray:
    """Users by what they last read."""
    found = np.random.default_rng(version).normal(size=(40, 8))
    last = [samples.item_id[end - 1] if end > begin else "i00" for begin, end in itertools.pairwise(samples.offsets)]
    return found[[int(item[1:]) for item in last]]


def see(store: Store, number: int, **more: Any) -> Observation:
    more = {"history": HISTORY} | more
    return observe(store, START + number * DAY, START + (number + 1) * DAY, **more)


def days(store: Store, count: int, **more: Any) -> None:
    the_past().write(store)
    for number in range(count):
        a_day(number, **more).write(store)


def everything(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    with store.reading() as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(sa.select(table)))
            for table in METADATA.sorted_tables
        }


def test_the_first_full_window_of_a_version_is_the_reference(store: Store) -> None:
    # Version 1 takes up in the middle of the first day; version 2 on the fourth.
    the_past().write(store)
    first = a_day(0)
    first.slates = [row if row["at"] > START + DAY // 2 else row | {"version": 9} for row in first.slates]
    first.write(store)
    for number in (1, 2):
        a_day(number).write(store)
    a_day(3, version=2).write(store)
    a_day(4, version=2, dwell=15.0).write(store)
    seen = [see(store, number) for number in range(5)]
    assert [each.version for each in seen[1:]] == [1, 1, 2, 2]
    assert any("did not answer throughout" in each for each in seen[0].skipped)
    assert any("is the reference of version 1" in each for each in seen[1].skipped)
    assert {each.feature for each in seen[2].findings["live"]} >= {"language", "hour", "history_length", "score_top"}
    assert seen[2].findings["live"][0].reference == "the window from 2024-10-05 00:00 to 2024-10-06 00:00"
    assert any("is the reference of version 2" in each for each in seen[3].skipped)
    # Scores of two versions are not compared.
    assert "score_top" not in {each.feature for each in seen[3].findings["before"]}
    drifted = {each.feature for each in seen[4].findings["live"] if each.drifted}
    assert drifted == {"dwell_seconds"}
    assert seen[4].value("drift.dwell_seconds", slice="reference=live") == 1
    assert seen[4].value("drifting") == 1
    note = next(each.note for each in seen[4].measures if each.key == ("", "", "drifting"))
    assert "dwell_seconds differs from" in note


def test_quiet_days_are_quiet(local_store: Store) -> None:
    # The made-up past has another rhythm than the days: it is out of the histories by then.
    days(local_store, 10)
    seen = [see(local_store, number, embed=vectors) for number in range(3, 10)]
    assert [each.reason for found in seen for each in found.drifted] == []
    assert "embedding" in {each.feature for each in seen[-1].findings["live"]}
    # By then it is known how much the agenda changes.
    assert not any("is not judged" in each for each in seen[-1].skipped)
    assert any("is not judged" in each for each in seen[1].skipped)


def test_a_window_that_is_observed_again_replaces_itself(store: Store) -> None:
    days(store, 3)
    for number in range(3):
        see(store, number, embed=vectors)
    before = everything(store)
    again = see(store, 2, embed=vectors)
    assert everything(store) == before
    assert see(store, 1, embed=vectors).measures
    assert everything(store) == before
    assert again.start == START + 2 * DAY


def test_a_window_that_another_monitor_stores_meanwhile(store: Store) -> None:
    days(store, 1)
    see(store, 0)
    before = everything(store)
    with ThreadPoolExecutor(1) as threads:
        with store.writing() as other:
            for table in (MEASURES, MONITORS):
                rows = [dict(row) for row in other.execute(sa.select(table)).mappings()]
                other.execute(table.delete())
                other.execute(table.insert(), rows)
            seen = threads.submit(see, store, 0)
            _until_somebody_waits_to_write(store)
        seen.result(30)
    assert everything(store) == before


def _until_somebody_waits_to_write(store: Store) -> None:
    if store.is_sqlite:  # whoever writes has its turn from its first statement on: there is nothing to be between
        return
    waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    found, deadline = 0, time.monotonic() + 30
    while not found:
        assert time.monotonic() < deadline, "nobody wrote"
        with store.reading() as connection:
            found = connection.execute(waiting).scalar_one()


def test_what_is_stored_is_what_was_seen(store: Store) -> None:
    days(store, 2)
    see(store, 0)
    seen = see(store, 1)
    last = last_window(store)
    assert last is not None
    assert (last.start, last.end) == (seen.start, seen.end)
    assert sorted(last.measures, key=lambda each: each.key) == sorted(seen.measures, key=lambda each: each.key)
    assert last_window(store, 3_600) is None
    history = read_measures(store, "ctr", seconds=86_400)
    assert [start for start, _ in history] == [START, START + DAY]
    assert history[1][1].value == seen.value("ctr")


def test_an_erased_user_leaves_nothing_in_it(store: Store) -> None:
    days(store, 2)
    for row in range(2):
        evaluate_rules(
            store, Rules(rules=(Rule(name="any", metric="users", above=0),)), see(store, row, embed=vectors), row
        )
    erase(store, "u007")
    found = everything(store)
    assert found["measures"]
    assert found["alerts"]
    assert found["monitors"]
    assert "u007" not in str(found)


def test_two_monitors_fire_once(store: Store) -> None:
    days(store, 1)
    seen = see(store, 0)
    told = Rules(rules=(Rule(name="busy", metric="slates", above=1, action="retrain"),))
    with ThreadPoolExecutor(6) as threads:
        fired = list(threads.map(lambda _: evaluate_rules(store, told, seen, START + DAY), range(6)))
    assert sorted(map(len, fired)) == [0, 0, 0, 0, 0, 1]
    (alert,) = alerts(store)
    assert (alert.rule, alert.state, alert.action, alert.at) == ("busy", "raised", "retrain", START + DAY)
    assert "slates is at" in alert.reason
    assert alerts(store, START + DAY + 1) == []
    assert read_state(store, 86_400).raised == ["busy"]
    # Windows of another length are judged by themselves.
    assert read_state(store, 3_600).raised == []


def test_what_is_not_judged_yet_is_told_in_its_order(store: Store) -> None:
    days(store, 4)
    seen = [see(store, number) for number in range(4)]
    assert [each.start for each in unjudged_windows(store, 86_400)] == [each.start for each in seen]
    assert unjudged_windows(store, 3_600) == []
    assert [each.start for each in unjudged_windows(store, 86_400, most=2)] == [each.start for each in seen[2:]]
    evaluate_rules(store, Rules(), seen[1], 0)
    left = unjudged_windows(store, 86_400)
    assert [each.start for each in left] == [START + 2 * DAY, START + 3 * DAY]
    assert sorted(left[0].measures, key=lambda each: each.key) == sorted(seen[2].measures, key=lambda each: each.key)
    for each in left:
        evaluate_rules(store, Rules(), each, 0)
    assert unjudged_windows(store, 86_400) == []


def test_a_memory_of_another_time_is_refused(local_store: Store) -> None:
    with local_store.writing() as connection:
        connection.execute(MONITORS.insert(), {"name": "rules:86400", "content": '{"later": 1}'})
    with pytest.raises(BadStore, match="newer"):
        read_state(local_store, 86_400)


def test_age_and_new_events_are_counted_from_the_end_of_the_training_data(store: Store) -> None:
    days(store, 2)
    events = [event for made in (the_past(), a_day(0), a_day(1)) for event in made.events]
    known = Fingerprint.of({}, source="training", hours=24, until=START - 10 * HOUR)
    seen = see(store, 1, fingerprint=known)
    assert seen.value("model_age_hours") == 58
    assert seen.value("new_events") == sum(START - 10 * HOUR <= event["at"] < START + 2 * DAY for event in events)
    assert see(store, 1, trained_until=START + 2 * DAY).value("model_age_hours") == 0
    assert see(store, 1).value("model_age_hours") is None
    asked = []

    def find(model: str, version: int) -> None:
        asked.append((model, version))

    assert "no fingerprint" in " ".join(see(store, 1, fingerprint=find).skipped)
    assert asked == [("feed", 1)]


def test_clicks_are_compared_with_the_windows_before(local_store: Store) -> None:
    days(local_store, 6)
    fewer = a_day(6)
    fewer.events = fewer.events[::2]
    fewer.write(local_store)
    seen = [see(local_store, number) for number in range(2, 7)]
    assert [each.value("ctr_change") is None for each in seen] == [True, True, True, False, False]
    change = next(each for each in seen[4].measures if each.key == ("", "", "ctr_change"))
    assert change.value == pytest.approx(-0.5, abs=0.1)
    assert change.high is not None
    fired = [evaluate_rules(local_store, Rules(), each, each.end) for each in seen]
    assert "clicks-fall" in [each.rule for each in fired[4]]


def test_without_a_model_or_traffic_there_is_something_to_say(local_store: Store) -> None:
    def away(samples: Samples, version: int) -> np.ndarray:
        raise Unavailable("UNAVAILABLE", "Nobody answers.")

    empty = see(local_store, 0, embed=away)
    assert empty.value("slates") == 0
    assert empty.version is None
    assert empty.findings == {}
    traffic = Traffic()
    for user in range(120):
        traffic.slate(f"u{user}", START + DAY + user, ["i01"], fallback="newest", version=None)
    traffic.write(local_store)
    seen = see(local_store, 1, embed=away)
    assert seen.value("fallback_rate") == 1.0
    assert evaluate_rules(local_store, Rules(), seen, 0)[0].rule == "fallbacks"
    a_day(2).write(local_store)
    assert "Nobody answers" in " ".join(see(local_store, 2, embed=away).skipped)


def test_windows_are_due_once_they_are_over(local_store: Store) -> None:
    assert due_windows(local_store, START) == []
    traffic = Traffic()
    traffic.slate("u1", START + 1, ["i01"])
    traffic.write(local_store)
    day = [(START + number * DAY, START + (number + 1) * DAY) for number in range(6)]
    # The first one began before the first slate.
    assert due_windows(local_store, START + 2 * DAY + HOUR - 1) == []
    assert due_windows(local_store, START + 2 * DAY + HOUR) == day[1:2]
    assert due_windows(local_store, START + 5 * DAY, lag_seconds=0, most=2) == day[3:5]
    see(local_store, 3)
    assert due_windows(local_store, START + 6 * DAY, lag_seconds=0) == day[4:6]
    assert len(due_windows(local_store, START + 2 * DAY, hours=6, lag_seconds=0)) == 7
    with pytest.raises(ValueError, match="length"):
        due_windows(local_store, START, hours=0)


def test_importing_needs_no_database(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, serving.monitoring.reference; from serving.monitoring import Fingerprint, Rules;"
        "sys.exit(str({'sqlalchemy', 'scipy', 'tensorflow', 'orjson'} & set(sys.modules)) != 'set()')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_old_windows_are_forgotten(local_store: Store) -> None:
    a_day(0).write(local_store)
    for number in range(12):
        see(local_store, number)
    with local_store.reading() as connection:
        names = list(connection.execute(sa.select(MONITORS.c.name)).scalars())
    assert len([name for name in names if name.startswith("window:86400:")]) == 9
    assert isinstance(last_window(local_store).measures[0], Measure)  # type: ignore[union-attr]
    assert MICRO == 10**6
