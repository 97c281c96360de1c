"""Measures against a computation row by row."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving.events import Store
from serving.monitoring.measures import Measure, measure
from serving.monitoring.records import write_measures
from serving.monitoring.window import read_window
from tests.serving.monitoring.conftest import DAY, HOUR, START, Traffic, a_day

K = 3


@pytest.fixture
def traffic() -> Traffic:
    """A day of two variants, two versions and fallbacks, with latencies that are not always known."""
    rng = np.random.default_rng(3)
    made = a_day(0, 40)
    for row in made.slates:
        row["variant"] = str(rng.choice(["a", "b"]))
        row["version"] = int(rng.choice([1, 2]))
        row["latency_ms"] = float(rng.gamma(2, 10)) if rng.random() < 0.8 else None
        if rng.random() < 0.2:
            row |= {"fallback": "trending", "version": None}
    made.slate("u000", START + HOUR, [], variant="a")
    return made


def by_hand(traffic: Traffic, chosen: Callable[[dict[str, Any]], bool]) -> dict[str, float]:
    wanted = {(event["request_id"], event["item_id"]): event for event in traffic.events}
    users_of = defaultdict(set)
    for row in traffic.slates:
        for item, *_ in json.loads(row["items"]):
            users_of[item].add(row["user_id"])
    everybody = {row["user_id"] for row in traffic.slates}
    rows = [row for row in traffic.slates if chosen(row)]
    shown = [(row, entry[0]) for row in rows for entry in json.loads(row["items"])]
    hits = [wanted[row["request_id"], item] for row, item in shown if (row["request_id"], item) in wanted]
    firsts = [[entry[0] for entry in json.loads(row["items"])[:K]] for row in rows]
    precision = [
        sum((row["request_id"], item) in wanted for item in items) / len(items)
        for row, items in zip(rows, firsts, strict=True)
        if items
    ]
    clicked = {event["request_id"] for event in hits}
    published = {f"i{number:02}": START - (36 - number) * HOUR for number in range(40)}
    return {
        "slates": len(rows),
        "users": len({row["user_id"] for row in rows}),
        "ctr": len(hits) / len(shown),
        "precision_at_k": float(np.mean(precision)),
        "clicked_slates": len(clicked) / len(rows),
        "dwell_seconds": float(np.mean([event["dwell_seconds"] for event in hits])),
        "coverage": len({item for _, item in shown}) / 39,
        "novelty": float(np.mean([-math.log2(len(users_of[item]) / len(everybody)) for _, item in shown])),
        "new_share": float(np.mean([row["at"] - published[item] < 24 * HOUR for row, item in shown])),
        "fallback_rate": float(np.mean([row["fallback"] is not None for row in rows])),
        "latency_p50_ms": float(np.median([row["latency_ms"] for row in rows if row["latency_ms"] is not None])),
    }


def found_of(measures: list[Measure], variant: str = "", slice_: str = "") -> dict[str, Measure]:
    return {each.metric: each for each in measures if (each.variant, each.slice) == (variant, slice_)}


def test_they_are_what_a_reader_of_the_rows_would_say(store: Store, traffic: Traffic) -> None:
    traffic.write(store)
    measures = measure(read_window(store, START, START + DAY), k=K)
    groups: dict[tuple[str, str], Callable[[dict[str, Any]], bool]] = {
        ("", ""): lambda row: True,
        ("a", ""): lambda row: row["variant"] == "a",
        ("", "language=de"): lambda row: row["language"] == "de",
        ("b", "device=mobile"): lambda row: row["variant"] == "b" and row["device"] == "mobile",
        ("", "version=2"): lambda row: row["version"] == 2,
        ("", "version=none"): lambda row: row["version"] is None,
        ("", "user=new"): lambda row: True,
    }
    for (variant, slice_), chosen in groups.items():
        found, expected = found_of(measures, variant, slice_), by_hand(traffic, chosen)
        for metric, value in expected.items():
            assert found[metric].value == pytest.approx(value, rel=1e-9), (variant, slice_, metric)
    assert found_of(measures, "", "user=known")["slates"].value == 0
    keys = [each.key for each in measures]
    assert len(set(keys)) == len(keys)


def test_parts_add_up_to_the_whole(local_store: Store, traffic: Traffic) -> None:
    traffic.write(local_store)
    measures = measure(read_window(local_store, START, START + DAY), k=K)
    whole = found_of(measures)
    for prefix in ("language=", "device=", "placement=", "version=", "user="):
        names = {each.slice for each in measures if not each.variant and each.slice.startswith(prefix)}
        assert sum(found_of(measures, "", name)["slates"].value for name in names) == whole["slates"].value
    parts = [found_of(measures, variant) for variant in ("a", "b")]
    for metric in ("ctr", "precision_at_k", "dwell_seconds", "fallback_rate", "novelty", "new_share"):
        summed = sum(part[metric].value * part[metric].count for part in parts)
        assert summed / sum(part[metric].count for part in parts) == pytest.approx(whole[metric].value)


def test_intervals_are_of_users_and_hold_what_they_promise(local_store: Store) -> None:
    inside, runs, users, rate = 0, 60, 80, 0.3
    for run in range(runs):
        rng = np.random.default_rng(run)
        traffic, start = Traffic(), START + run * DAY
        for user in range(users):
            # Users differ, and the busy ones click more: slates of one user are far from independent.
            own = rng.beta(3, 7)
            for _ in range(int(rng.integers(1, 12))):
                request = traffic.slate(f"u{user}", start + int(rng.integers(DAY)), ["i01", "i02"])
                for item in ("i01", "i02"):
                    if rng.random() < own:
                        traffic.event(f"u{user}", item, start + 1, request_id=request)
        traffic.write(local_store)
        found = found_of(measure(read_window(local_store, start, start + DAY)))["ctr"]
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= rate <= found.high
    assert inside >= 0.85 * runs


def test_what_nobody_wanted_is_not_certain_to_stay_so(local_store: Store) -> None:
    traffic = Traffic()
    for user in range(20):
        traffic.slate(f"u{user}", START, ["i01"])
    traffic.write(local_store)
    found = found_of(measure(read_window(local_store, START, START + DAY)))["ctr"]
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(0.161, abs=1e-3)


def test_what_is_not_known_is_left_out(local_store: Store) -> None:
    assert {each.metric: each.value for each in measure(read_window(local_store, START, START + DAY))} == {
        "slates": 0,
        "users": 0,
    }
    traffic = Traffic()
    traffic.slate("u1", START, ["unknown"])
    traffic.write(local_store)
    found = found_of(measure(read_window(local_store, START, START + DAY)))
    assert not {"latency_p50_ms", "dwell_seconds", "new_share"} & found.keys()
    assert found["ctr"].low is None


def test_groups_are_bounded(local_store: Store) -> None:
    traffic = Traffic()
    for number in range(60):
        more = {"language": f"l{number}", "device": f"d{number}", "placement": f"p{number}", "version": number}
        traffic.slate("u1", START + number, ["i01"], variant=f"v{number}", **more)
    traffic.write(local_store)
    measures = measure(read_window(local_store, START, START + DAY))
    assert len({each.variant for each in measures}) <= 22
    assert len({each.slice for each in measures}) <= 48
    assert found_of(measures, "", "language=(others)")["slates"].value == 50


@pytest.mark.parametrize("others", [0, 15])
def test_values_that_are_called_as_what_stands_in_for_them(store: Store, others: int) -> None:
    """A site that sends "unknown" or "(others)" is measured and stored all the same."""
    names: list[str | None] = [None, None, "unknown", "unknown", "(others)", "(others)"]
    names += [f"x{number:02}" for number in range(others)]
    traffic = Traffic()
    for number, name in enumerate(names):
        more = {"language": name, "device": name, "variant": name}
        traffic.slate("u1", START + number, ["i01"], **more)
    traffic.write(store)
    measures = measure(read_window(store, START, START + DAY))
    write_measures(store, START, START + DAY, measures)
    slates = {each.key: each.value for each in measures if each.metric == "slates"}
    assert len({each.key for each in measures}) == len(measures)
    for prefix in ("device=", "language="):
        of_all = [value for (variant, name, _), value in slates.items() if not variant and name.startswith(prefix)]
        assert sum(of_all) == len(names)
        assert slates["", f"{prefix}unknown", "slates"] == 4
        # Of 17 values ten are the most frequent, and one of these is itself called (others).
        assert slates["", f"{prefix}(others)", "slates"] == (2 + 7 if others else 2)
    assert slates["unknown", "", "slates"] == 4
    assert slates["(others)", "", "slates"] == 2
