"""Which events of a log a run may have learned from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.data.histories import load_behaviour
from pipelines.overlap import are_timed, learned_from

Make = Callable[..., Dataset]
Read = tuple[str, str, int]  # user, item, moment


def log_of(make_dataset: Make, reads: list[Read], **info: Any) -> tuple[Dataset, Any]:
    """A dataset in which each read is a request of its own."""
    items = [{"item_id": item} for item in sorted({item for _, item, _ in reads})]
    events = [
        {"user_id": user, "item_id": item, "at": at, "request_id": f"r{number}", "kind": kind}
        for number, (user, item, at) in enumerate(reads)
        for kind in ("impression", "click")
    ]
    at = [datetime.fromtimestamp(each, UTC) for _, _, each in reads]
    dataset = make_dataset(events, items, first_at=min(at), last_at=max(at), **info)
    catalogue = Catalogue.load(dataset)
    return dataset, SimpleNamespace(catalogue=catalogue, behaviour=load_behaviour(dataset, catalogue.ids))


def left_out(own: tuple[Dataset, Any], other: tuple[Dataset, Any]) -> set[Read]:
    run: Any = SimpleNamespace(origin=SimpleNamespace(last_at=str(own[0].info.last_at)))
    positives, requests = learned_from(run, own[1], other[1], timed=are_timed(own[0], other[0]))
    log, asked = other[1].behaviour.interactions, other[1].behaviour.requests
    np.testing.assert_array_equal(requests[log.request], positives)
    assert len(positives) == len(requests) == len(asked)
    ids = other[1].catalogue.ids
    rows = zip(log.user_ids[log.user], ids[log.item - 1], log.at, strict=True)
    return {(user, item, int(at)) for (user, item, at), out in zip(rows, positives, strict=True) if out}


OWN: list[Read] = [("a", "x", 10), ("b", "y", 20), ("a", "z", 30)]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        # What the store holds of before is what an earlier run was trained on.
        ([("c", "w", 5), *OWN, ("a", "x", 31)], [("c", "w", 5), *OWN]),
        ([("a", "x", 31), ("b", "w", 40)], []),
        ([("a", "x", 11), ("b", "y", 19), ("c", "z", 30)], []),  # ids of the same names, and no event in common
        ([("d", "v", 1), ("e", "u", 2)], []),
    ],
)
def test_a_log_that_shares_an_event_counts_up_to_the_end_of_the_run_s(
    make_dataset: Make, other: list[Read], expected: list[Read]
) -> None:
    assert left_out(log_of(make_dataset, OWN), log_of(make_dataset, other)) == set(expected)


@pytest.mark.parametrize("which", ["both", "own", "other"])
def test_without_times_it_is_what_both_hold(make_dataset: Make, which: str) -> None:
    own, other = ({"clock": "row order" if which in (each, "both") else "utc"} for each in ("own", "other"))
    reads = [("c", "x", 1), ("a", "z", 2), ("b", "y", 3), ("b", "x", 4)]  # in another order
    found = left_out(log_of(make_dataset, OWN, **own), log_of(make_dataset, reads, **other))
    assert found == {("a", "z", 2), ("b", "y", 3)}


def test_one_moment_for_all_events_is_no_time(make_dataset: Make) -> None:
    own = log_of(make_dataset, [("a", "x", 7), ("b", "y", 7)])
    other = log_of(make_dataset, [("a", "x", 7), ("b", "y", 7), ("b", "x", 7)])
    assert left_out(own, other) == {("a", "x", 7), ("b", "y", 7)}
