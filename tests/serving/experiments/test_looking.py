"""Looks at experiments, from slates and events in a store to a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from serving.events import Store
from serving.events.tables import EVENTS, SLATES
from serving.experiments.declaration import Experiment
from serving.experiments.exposures import INTERLEAVED, label_of, read_exposures, variant_in
from serving.experiments.looking import Look, look
from serving.experiments.records import list_looks, read_experiment, start_experiment, stop_experiment
from serving.experiments.sequential import difference
from serving.experiments.values import ratio_values

START, HOUR, SHOWN = 10**12, 3_600 * 10**6, 5


@pytest.fixture
def store(where: Path | str) -> Iterator[Store]:
    with Store(where) as opened:
        yield opened


class Traffic:
    """Slates and clicks of users with habits of their own."""

    def __init__(self, store: Store, seed: int = 0) -> None:
        self.store, self.rng = store, np.random.default_rng(seed)
        self.slates: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    def slate(self, user: str, variant: str, at: int, rate: float, **more: Any) -> None:
        number = len(self.slates)
        items = more.pop("items", [[f"i{place}", 0.0, place, 1.0, ""] for place in range(SHOWN)])
        row = {"request_id": f"r{number}", "user_id": user, "at": at, "placement": "home", "variant": variant}
        row |= {"fallback": None, "latency_ms": 10.0, "items": orjson.dumps(items).decode()}
        self.slates.append(row | more)
        for item in items:
            if self.rng.random() < rate:
                event = {"event_id": f"e{len(self.events)}", "user_id": user, "item_id": item[0], "kind": "click"}
                self.events.append(event | {"at": at + 1, "request_id": f"r{number}", "dwell_seconds": 10.0})

    def write(self) -> None:
        with self.store.writing() as connection:
            for table, rows in ((SLATES, self.slates), (EVENTS, self.events)):
                if rows:
                    connection.execute(table.insert(), rows)


def declared(**more: Any) -> Experiment:
    variants = {"old": {"share": 0.5}, "new": {"share": 0.5, "treatment": {"label": "canary"}}}
    return Experiment.read({"name": "e", "variants": variants, "planned_users": 2_000, "control": "old"} | more)


def played(store: Store, experiment: Experiment, rates: dict[str, float], users: int = 600, **more: Any) -> Look:
    """Users of an experiment, with a time before it, and a look at what they did."""
    traffic = Traffic(store)
    for number in range(users):
        user = f"u{number}"
        variant = experiment.split.variant(user)
        if variant is None:
            continue
        habit = traffic.rng.lognormal(0, 0.5)
        for visit in range(3):
            traffic.slate(user, "default", START - HOUR + visit, 0.1 * habit)
            traffic.slate(user, label_of("e", variant), START + visit, rates[variant] * habit, **more)
    traffic.write()
    start_experiment(store, experiment, START)
    return look(store, read_experiment(store, "e"), START + HOUR)


def test_a_better_variant_wins(store: Store) -> None:
    seen = played(store, declared(), {"old": 0.1, "new": 0.2})
    assert (seen.verdict, seen.winner) == ("won", "new")
    assert seen.leads["new"].low > 0
    assert seen.value["new"] > seen.value["old"]
    assert sum(seen.users.values()) == 600
    assert "better in ctr" in seen.why
    assert [each["verdict"] for _, each in list_looks(store, "e")] == ["won"]


def test_a_worse_variant_loses_at_the_first_look(store: Store) -> None:
    assert played(store, declared(), {"old": 0.1, "new": 0.02}).verdict == "lost"


def test_no_difference_is_no_decision_until_the_planned_users_are_there(store: Store) -> None:
    assert played(store, declared(), {"old": 0.1, "new": 0.1}).verdict == "running"
    planned = read_experiment(store, "e")._replace(experiment=declared(planned_users=500))
    assert look(store, planned, START + HOUR + 1).verdict == "undecided"


def test_the_time_before_makes_it_surer(store: Store) -> None:
    with_before = played(store, declared(), {"old": 0.1, "new": 0.12})
    without = look(store, read_experiment(store, "e")._replace(experiment=declared(before_hours=0)), START + HOUR + 1)
    width = [each.leads["new"].high - each.leads["new"].low for each in (with_before, without)]
    assert width[0] < 0.95 * width[1]


def test_users_of_two_variants_are_left_out_and_counted(store: Store) -> None:
    traffic = Traffic(store)
    for variant in ("old", "new"):
        traffic.slate("both", label_of("e", variant), START, 0.5)
    traffic.slate("one", label_of("e", "old"), START, 1.0)
    traffic.slate("one", f"other:x,{label_of('e', 'old')}", START + 1, 0.0, fallback="stale")
    traffic.slate("nobody", "default", START, 0.5)
    traffic.write()
    found = read_exposures(store, "e", ["old", "new"], START, START + HOUR)
    assert found.left_out == 1
    assert found.arms["old"].users == ["one"]
    assert len(found.arms["new"]) == 0
    counts = {name: values.tolist() for name, values in found.arms["old"].counts.items()}
    assert (counts["slates"], counts["shown"], counts["clicks"], counts["dwell"]) == ([2], [10], [5], [50])
    assert (counts["fallbacks"], counts["timed"], counts["latency_ms"]) == ([1], [2], [20])


def test_shares_that_are_not_as_planned_break_it(store: Store) -> None:
    planned = declared(variants={"old": {"share": 0.3}, "new": {"share": 0.7}})
    traffic = Traffic(store)
    for number in range(600):
        user = f"u{number}"
        traffic.slate(user, label_of("e", declared().split.variant(user) or ""), START, 0.1)
    traffic.write()
    start_experiment(store, planned, START)
    seen = look(store, read_experiment(store, "e"), START + HOUR)
    assert seen.verdict == "broken"
    assert "not divided as planned" in seen.why


def test_a_guardrail_ends_it_whatever_the_metric_says(store: Store) -> None:
    traffic = Traffic(store)
    for number in range(600):
        variant = declared().split.variant(f"u{number}") or ""
        fallback = "stale" if variant == "new" and number % 4 == 0 else None
        rate = {"old": 0.1, "new": 0.3}[variant]
        traffic.slate(f"u{number}", label_of("e", variant), START, rate, fallback=fallback)
    traffic.write()
    start_experiment(store, declared(), START)
    seen = look(store, read_experiment(store, "e"), START + HOUR)
    assert seen.verdict == "guardrail"
    assert "fallback_rate" in seen.why


def test_clicks_that_name_no_request_decide_nothing(store: Store) -> None:
    seen = played(store, declared(), {"old": 0.0, "new": 0.0})
    assert seen.verdict == "running"
    with store.writing() as connection:
        connection.execute(EVENTS.delete())
    again = look(store, read_experiment(store, "e"), START + HOUR + 1)
    assert "request_id" in again.why


def test_thompson_shifts_the_shares(store: Store) -> None:
    seen = played(store, declared(method="thompson", planned_users=500), {"old": 0.1, "new": 0.2})
    assert (seen.verdict, seen.winner) == ("won", "new")
    assert seen.shares is not None
    assert seen.shares["new"] > 0.8
    assert sum(seen.shares.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(("rate", "verdict"), [(0.3, "won"), (0.1, "running"), (0.02, "lost")])
def test_interleaving_prefers_whose_items_are_clicked(store: Store, rate: float, verdict: str) -> None:
    traffic = Traffic(store)
    for number in range(400):
        teams = [0, 1, 1, 0, -1]
        items = [[f"i{place}", 0.0, place, 1.0, "", team] for place, team in enumerate(teams)]
        traffic.slate(f"u{number}", label_of("e", INTERLEAVED), START, 0.0, items=items)
        for place, team in enumerate(teams):
            if traffic.rng.random() < {0: 0.1, 1: rate, -1: 0.5}[team]:
                event = {"event_id": f"x{number}/{place}", "user_id": f"u{number}", "item_id": f"i{place}"}
                traffic.events.append(event | {"kind": "click", "at": START + 1, "request_id": f"r{number}"})
    for event in traffic.events:
        event.setdefault("dwell_seconds", None)
    traffic.write()
    start_experiment(store, declared(method="interleaving"), START)
    seen = look(store, read_experiment(store, "e"), START + HOUR)
    assert seen.verdict == verdict
    assert seen.users == {INTERLEAVED: 400}


def test_variants_in_slates() -> None:
    text = f"{label_of('a', 'x')},{label_of('b', 'y')}"
    assert [variant_in(text, name) for name in ("a", "b", "c")] == ["x", "y", None]
    assert variant_in(None, "a") is None
    assert variant_in("default", "default") is None


def test_an_arm_that_was_shown_nothing_is_no_failure(store: Store) -> None:
    traffic = Traffic(store)
    for number in range(600):
        variant = declared().split.variant(f"u{number}") or ""
        more = {"items": []} if variant == "new" else {}
        traffic.slate(f"u{number}", label_of("e", variant), START, 0.2, **more)
    traffic.write()
    start_experiment(store, declared(), START)
    seen = look(store, read_experiment(store, "e"), START + HOUR)
    assert seen.verdict == "running"
    assert "new was shown nothing" in seen.why


@pytest.mark.parametrize("method", ["sequential", "interleaving", "thompson"])
def test_clicks_of_others_do_not_stand_for_those_that_are_missing(store: Store, method: str) -> None:
    experiment = declared(method=method, planned_users=200)
    traffic = Traffic(store)
    for number in range(400):
        variant = INTERLEAVED if method == "interleaving" else experiment.split.variant(f"u{number}") or ""
        traffic.slate(f"u{number}", label_of("e", variant), START, 0.0)
        traffic.slate(f"other{number}", "default", START, 0.5)
    traffic.write()
    start_experiment(store, experiment, START)
    seen = look(store, read_experiment(store, "e"), START + HOUR)
    assert seen.verdict == "running"
    assert "clicks are unknown" in seen.why


def test_a_look_says_which_versions_answered(store: Store) -> None:
    traffic = Traffic(store)
    traffic.slate("a", label_of("e", "old"), START, 0.0, version=1)
    traffic.slate("b", label_of("e", "new"), START, 0.0, version=7)
    traffic.slate("b", label_of("e", "new"), START + 1, 0.0, version=8)
    traffic.slate("b", label_of("e", "new"), START + 2, 0.0, version=1, fallback="default")
    for slate in traffic.slates:
        slate.setdefault("version", None)
    traffic.write()
    start_experiment(store, declared(), START)
    assert look(store, read_experiment(store, "e"), START + HOUR).versions == {"old": {"1": 1}, "new": {"7": 1, "8": 1}}


def test_of_several_treatments_each_test_is_tightest_with_the_users_it_has(store: Store) -> None:
    third = {"old": {"share": 0.4}, "new": {"share": 0.3}, "other": {"share": 0.3}}
    wide = declared(variants=third, planned_users=1_000, before_hours=0, alpha=0.1)
    seen = played(store, wide, {"old": 0.1, "new": 0.1, "other": 0.1})
    found = read_exposures(store, "e", list(third), START, START + HOUR)
    arms = [found.arms[name].counts for name in ("old", "new")]
    values = ratio_values([each["clicks"] for each in arms], [each["shown"] for each in arms])
    assert seen.leads["new"] == difference(values[0], values[1], planned=700, alpha=0.05)


def test_who_is_moved_by_thompson_sampling_counts_in_both_arms(store: Store) -> None:
    traffic = Traffic(store)
    for number in range(200):
        for visit, variant in enumerate(["old", "new"] if number % 2 else ["new", "new"]):
            traffic.slate(f"u{number}", label_of("e", variant), START + visit, 0.1)
    traffic.write()
    start_experiment(store, declared(method="thompson"), START)
    seen = look(store, read_experiment(store, "e"), START + HOUR)
    assert (seen.users, seen.left_out) == ({"old": 100, "new": 200}, 0)


def test_a_few_busy_users_are_not_taken_for_many(store: Store) -> None:
    traffic = Traffic(store)
    experiment = declared(method="thompson", least_users=20, planned_users=100)
    for number in range(100):
        variant = experiment.split.variant(f"u{number}") or ""
        # Of both variants alike some click always and some never, by chance more of one.
        likes = number % 20 < (6 if variant == "new" else 4)
        for visit in range(100):
            traffic.slate(f"u{number}", label_of("e", variant), START + visit, 1.0 if likes else 0.0)
    traffic.write()
    start_experiment(store, experiment, START)
    seen = look(store, read_experiment(store, "e"), START + HOUR)
    assert seen.verdict == "running"
    assert seen.shares is not None
    assert max(seen.shares.values()) < 0.9


def test_a_guardrail_ends_thompson_sampling_too(store: Store) -> None:
    experiment = declared(method="thompson")
    traffic = Traffic(store)
    for number in range(600):
        variant = experiment.split.variant(f"u{number}") or ""
        fallback = "stale" if variant == "new" and number % 4 == 0 else None
        traffic.slate(f"u{number}", label_of("e", variant), START, 0.1, fallback=fallback)
    traffic.write()
    start_experiment(store, experiment, START)
    assert look(store, read_experiment(store, "e"), START + HOUR).verdict == "guardrail"


def test_time_goes_on_for_nothing_that_is_over(store: Store) -> None:
    start_experiment(store, declared(longest_hours=2), START)
    stop_experiment(store, "e", START + HOUR, "by hand")
    assert look(store, read_experiment(store, "e"), START + 3 * HOUR).verdict == "running"
