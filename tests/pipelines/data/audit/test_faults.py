"""Every fault that is planted in clean data is found by its name, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.data.audit import AuditReport, audit
from pipelines.data.dataset import Dataset
from pipelines.data.sources.newsroom import import_newsroom

from .conftest import NOW, SMALL, Fault, Plant, Tables

DAY = pd.Timedelta(days=1)
POSITIVES = ("click", "read", "like", "share")


def some(frame: pd.DataFrame, share: float) -> np.ndarray:
    """(rows,) bool: about this share of the rows, the same ones every time."""
    return np.random.default_rng(3).random(len(frame)) < share


def late(events: pd.DataFrame) -> pd.Series:
    """The last tenth of the events, which the default split tests on."""
    return events["at"] >= events["at"].quantile(0.9)


def wanted(events: pd.DataFrame) -> pd.Series:
    return events["kind"].isin(POSITIVES)


def with_new_ids(events: pd.DataFrame) -> pd.DataFrame:
    return events.assign(event_id="copy-" + events["event_id"])


def published_after_its_clicks(tables: Tables) -> None:
    tables["items"].loc[:9, "published_at"] += 30 * DAY
    tables["items"].loc[:9, "removed_at"] = pd.NaT


def still_shown_after_removal(tables: Tables) -> None:
    items = tables["items"]
    items.loc[some(items, 0.2), "removed_at"] = tables["events"]["at"].min() - DAY


def click_before_it_was_shown(tables: Tables) -> None:
    events = tables["events"]
    events.loc[wanted(events) & some(events, 0.2), "at"] -= pd.Timedelta(minutes=30)


def clicks_of_the_test_in_training(tables: Tables) -> None:
    events = tables["events"]
    requests = events.loc[late(events) & (events["kind"] == "impression"), "request_id"].unique()
    events.loc[wanted(events) & events["request_id"].isin(requests[::2]), "at"] -= 3 * DAY


def clicks_of_the_test_copied_into_validation(tables: Tables) -> None:
    events = tables["events"]
    copies = with_new_ids(events[late(events) & wanted(events)]).assign(request_id=None, position=np.nan)
    tables["events"] = pd.concat([events, copies.assign(at=events["at"].quantile(0.88))])


def events_delivered_twice(tables: Tables) -> None:
    events = tables["events"]
    tables["events"] = pd.concat([events, with_new_ids(events[some(events, 0.03)])])


def event_ids_given_twice(tables: Tables) -> None:
    tables["events"].loc[100:120, "event_id"] = "e"


def language_mix_shifts(tables: Tables) -> None:
    events = tables["events"].merge(tables["items"][["item_id", "language"]])
    english = events.loc[events["language"] == "en", "request_id"].unique()
    dropped = (events["at"] >= events["at"].quantile(0.8)) & events["request_id"].isin(english)
    tables["events"] = events[~dropped].drop(columns="language")


def dwell_changes_its_unit(tables: Tables) -> None:
    events = tables["events"]
    events.loc[late(events), "dwell_seconds"] *= 60


def times_are_1970(tables: Tables) -> None:
    events = tables["events"]
    events.loc[some(events, 0.01), "at"] = pd.Timestamp("1970-01-01T00:00:05Z")


def times_are_in_the_future(tables: Tables) -> None:
    events = tables["events"]
    events.loc[some(events, 0.01), "at"] += 3650 * DAY


def times_are_dates(tables: Tables) -> None:
    tables["events"]["at"] = tables["events"]["at"].dt.floor("D")


def a_day_is_missing(tables: Tables) -> None:
    events = tables["events"]
    tables["events"] = events[events["at"].dt.floor("D") != events["at"].min().floor("D") + 3 * DAY]


def one_item_with_half_the_clicks(tables: Tables) -> None:
    events, items = tables["events"], tables["items"]
    old = items.sort_values("published_at")["item_id"].iloc[0]
    items.loc[items["item_id"] == old, "removed_at"] = pd.NaT
    clicks = events[(events["kind"] == "click") & some(events, 0.9)]
    tables["events"] = pd.concat([events, with_new_ids(clicks).assign(item_id=old, request_id=None, position=np.nan)])


def one_user_with_a_third_of_the_events(tables: Tables) -> None:
    events = tables["events"]
    requests = events["request_id"].drop_duplicates()
    bot = requests[some(requests.to_frame(), 0.33)]
    events.loc[events["request_id"].isin(bot), "user_id"] = tables["users"]["user_id"].iloc[0]


def dwell_is_often_missing(tables: Tables) -> None:
    events = tables["events"]
    events.loc[some(events, 0.4), "dwell_seconds"] = np.nan


def dwell_is_a_default(tables: Tables) -> None:
    events = tables["events"]
    events.loc[some(events, 0.7) & events["dwell_seconds"].notna(), "dwell_seconds"] = 10.0


def depth_in_per_cent(tables: Tables) -> None:
    tables["events"]["scroll_depth"] *= 100


def propensity_of_zero(tables: Tables) -> None:
    events = tables["events"]
    events.loc[some(events, 0.05) & events["propensity"].notna(), "propensity"] = 0.0


def items_left_out_of_the_catalogue(tables: Tables) -> None:
    tables["items"] = tables["items"][~some(tables["items"], 0.1)]


def items_twice(tables: Tables) -> None:
    tables["items"] = pd.concat([tables["items"], tables["items"].iloc[:5].assign(title=None)])


def titles_of_a_placeholder(tables: Tables) -> None:
    items = tables["items"]
    items.loc[some(items, 0.2), "title"] = "Breaking news"


def items_that_nobody_is_shown(tables: Tables) -> None:
    items = tables["items"]
    extra = [items.assign(item_id=f"x{copy}-" + items["item_id"], title=items["title"] + f" {copy}") for copy in (1, 2)]
    tables["items"] = pd.concat([items, *extra])


def clicks_whose_impression_is_lost(tables: Tables) -> None:
    events = tables["events"]
    tables["events"] = events[~((events["kind"] == "impression") & some(events, 0.1))]


def a_position_is_not_logged(tables: Tables) -> None:
    events = tables["events"]
    tables["events"] = events[events["position"] != 4]


def clicks_of_a_position_are_not_logged(tables: Tables) -> None:
    events = tables["events"]
    tables["events"] = events[~(wanted(events) & (events["position"] == 2))]


def the_first_position_is_called_the_ninth(tables: Tables) -> None:
    tables["events"]["position"] = tables["events"]["position"].replace({0: 8, 8: 0})


def two_items_at_one_position(tables: Tables) -> None:
    tables["events"]["position"] = tables["events"]["position"].replace({5: 4, 6: 5, 7: 6, 8: 7, 9: 8})


def request_ids_begin_anew(tables: Tables) -> None:
    events = tables["events"]
    events["request_id"] = "r" + events.groupby("user_id")["request_id"].transform(
        lambda ids: ids.factorize()[0]
    ).astype(str)


def an_unknown_kind(tables: Tables) -> None:
    events = tables["events"]
    events.loc[events["kind"] == "like", "kind"] = "heart"


def clicks_are_lost(tables: Tables) -> None:
    tables["events"] = tables["events"][~wanted(tables["events"])]


def users_with_two_ids(tables: Tables) -> None:
    events, users = tables["events"], tables["users"]
    busy = events[events["kind"] == "click"].groupby("user_id")["item_id"].nunique()
    chosen = busy[busy >= 10].index[:6]
    for kept in (events["user_id"].isin(chosen),):
        again = with_new_ids(events[kept])
        again = again.assign(user_id="twin-" + again["user_id"], request_id="twin-" + again["request_id"])
    tables["events"] = pd.concat([events, again])
    known = users[users["user_id"].isin(chosen)]
    tables["users"] = pd.concat([users, known.assign(user_id="twin-" + known["user_id"])])


def users_missing_from_their_table(tables: Tables) -> None:
    tables["users"] = tables["users"][~some(tables["users"], 0.2)]


def users_who_join_after_their_events(tables: Tables) -> None:
    tables["users"].loc[some(tables["users"], 0.2), "created_at"] = pd.Timestamp("2026-01-01", tz="UTC")


def languages_written_in_two_ways(tables: Tables) -> None:
    tables["users"]["language"] = tables["users"]["language"].str.upper()


@dataclass(frozen=True)
class Planted:
    fault: Fault
    check: str
    subject: str | None = None
    # What cannot be otherwise where this fault is.
    follows: tuple[str, ...] = ()


PLANTED = [
    Planted(published_after_its_clicks, "before_publication"),
    Planted(still_shown_after_removal, "after_removal"),
    Planted(click_before_it_was_shown, "click_before_impression", follows=("before_publication", "split_shared")),
    Planted(
        clicks_of_the_test_in_training,
        "split_shared",
        follows=("click_before_impression", "before_publication", "outside_time_range"),
    ),
    Planted(
        clicks_of_the_test_copied_into_validation,
        "split_repeats",
        follows=("before_publication", "drift_psi", "duplicate_events"),
    ),
    Planted(events_delivered_twice, "duplicate_events"),
    Planted(event_ids_given_twice, "duplicate_event_ids"),
    Planted(language_mix_shifts, "drift_psi", "language", follows=("drift_psi",)),
    Planted(dwell_changes_its_unit, "drift_psi", "dwell_seconds", follows=("drift_ks",)),
    Planted(
        times_are_1970,
        "before_1990",
        follows=(
            "outside_time_range",
            "before_publication",
            "before_joining",
            "click_before_impression",
            "split_shared",
        ),
    ),
    Planted(
        times_are_in_the_future,
        "after_now",
        follows=("outside_time_range", "after_removal", "click_before_impression", "split_shared", "drift_psi"),
    ),
    Planted(
        times_are_dates,
        "coarse_times",
        follows=("outside_time_range", "before_publication", "before_joining", "drift_psi", "duplicate_events"),
    ),
    Planted(a_day_is_missing, "time_gaps"),
    Planted(one_item_with_half_the_clicks, "item_share", follows=("split_repeats", "drift_psi")),
    Planted(one_user_with_a_third_of_the_events, "user_share", follows=("split_repeats",)),
    Planted(dwell_is_often_missing, "missing_values", "events.dwell_seconds"),
    Planted(dwell_is_a_default, "commonest_value", "events.dwell_seconds"),
    Planted(depth_in_per_cent, "out_of_range", "events.scroll_depth"),
    Planted(propensity_of_zero, "out_of_range", "events.propensity"),
    Planted(items_left_out_of_the_catalogue, "unknown_items"),
    Planted(items_twice, "duplicate_items"),
    Planted(titles_of_a_placeholder, "duplicate_titles"),
    Planted(items_that_nobody_is_shown, "unused_items"),
    Planted(clicks_whose_impression_is_lost, "click_without_impression"),
    Planted(a_position_is_not_logged, "position_gaps"),
    Planted(clicks_of_a_position_are_not_logged, "dead_positions"),
    Planted(the_first_position_is_called_the_ninth, "position_jumps"),
    Planted(two_items_at_one_position, "repeated_positions"),
    Planted(request_ids_begin_anew, "shared_requests"),
    Planted(an_unknown_kind, "unknown_kinds"),
    Planted(clicks_are_lost, "no_positives", follows=("split_empty",)),
    Planted(users_with_two_ids, "twin_users"),
    Planted(users_missing_from_their_table, "unknown_users"),
    Planted(users_who_join_after_their_events, "before_joining"),
    Planted(languages_written_in_two_ways, "language_mismatch"),
]


def test_clean_data_raises_nothing(clean_report: AuditReport) -> None:
    assert clean_report.findings == []
    assert clean_report.passed
    assert clean_report.result["skipped"] == {}


@pytest.mark.parametrize("seed", [103, 106, 112])
def test_few_items_and_few_users_are_no_fault(seed: int, tmp_path: Path) -> None:
    """Newsrooms whose last days were once taken for drift of popularity, and whose busiest reader for a robot."""
    import_newsroom(SMALL, tmp_path / "data", seed=seed)
    assert audit(Dataset.open(tmp_path / "data"), now=NOW).findings == []


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.fault.__name__)
def test_a_planted_fault_is_found_by_name(planted: Planted, plant: Plant) -> None:
    found = audit(plant(planted.fault), now=NOW).findings
    named = [check for check in found if check.check == planted.check]
    assert named, [(check.check, check.subject) for check in found]
    if planted.subject is not None:
        assert planted.subject in {check.subject for check in named}
    assert all(check.advice and check.threshold is not None and check.value > check.threshold for check in found)
    assert {check.check for check in found} <= {planted.check, *planted.follows}
