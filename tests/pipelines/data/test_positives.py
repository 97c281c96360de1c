"""Positives that the log does not hold, beside its own."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.examples import TrainingExamples
from pipelines.data.positives import Positives
from pipelines.data.window import HistoryWindow


def _examples(made: Any, chosen: np.ndarray, added: Positives | None = None, **settings: Any) -> TrainingExamples:
    window = HistoryWindow(made.behaviour.interactions, 5, has_times=True, user_language=np.zeros(15, np.int32))
    given = {"items": len(made.catalogue), "batch_size": 16, "shown_negatives": 4, "max_per_user": None, "seed": 3}
    return TrainingExamples(made.behaviour, window, chosen, added=added, **{**given, **settings})


@given(st.integers(0, 20), st.integers(0, 20))
def test_two_sets_are_one_after_the_other(made: Any, left: int, right: int) -> None:
    log = made.behaviour.interactions
    both = Positives.of(log, np.arange(left)) + Positives.of(log, np.arange(left, left + right))
    whole = Positives.of(log, np.arange(left + right))
    for each in fields(Positives):
        np.testing.assert_array_equal(getattr(both, each.name), getattr(whole, each.name))


def test_added_positives_are_trained_on_like_those_of_the_log(made: Any) -> None:
    """Half of the log's positives, with the others added, make the batches of all of them."""
    log = made.behaviour.interactions
    first = np.arange(len(log)) < len(log) // 2
    whole = _examples(made, np.ones(len(log), bool))
    parts = _examples(made, first, Positives.of(log, np.flatnonzero(~first)))
    assert len(whole) == len(parts)
    for number in range(len(whole)):
        one, other = whole.batch(1, number), parts.batch(1, number)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_no_history_holds_an_added_positive(made: Any) -> None:
    log = made.behaviour.interactions
    rows = np.arange(20)
    odd = replace(Positives.of(log, rows), item=np.full(20, 24, np.int32))
    plain, more = (_examples(made, log.item != 24, added, batch_size=len(log) + 20) for added in (None, odd))
    assert len(more.positives) == len(plain.positives) + 20
    own = plain.window.places(odd.user, odd.history_end)
    expected = (plain.batch(1, 0)["history"] == 24).sum() + (log.item[own[0][own[1]]] == 24).sum()
    assert (more.batch(1, 0)["history"] == 24).sum() == expected
    assert (more.batch(1, 0)["positive"] == 24).sum() == 20


def test_what_is_added_weighs_as_it_says_and_counts_for_popularity(made: Any) -> None:
    log = made.behaviour.interactions
    rows = np.flatnonzero(log.item == log.item[0])
    added = Positives.of(log, rows, np.full(len(rows), 0.25, np.float32))
    more = _examples(made, np.ones(len(log), bool), added, batch_size=len(log) + len(rows))
    batch = more.batch(1, 0)
    assert (batch["weight"] == 0.25).sum() == len(rows)
    assert more.probability[log.item[0]] > _examples(made, np.ones(len(log), bool)).probability[log.item[0]]


def test_an_item_is_not_its_own_negative(made: Any) -> None:
    """A positive that the slate does not know as clicked is left out of what the slate showed in vain."""
    requests, log = made.behaviour.requests, made.behaviour.interactions
    request = np.repeat(np.arange(len(requests)), np.diff(requests.offsets))
    place = np.flatnonzero(~requests.clicked & (requests.item > 0))
    of = request[place]
    added = Positives(
        requests.user[of],
        requests.history_end[of],
        requests.at[of],
        requests.device[of],
        of,
        requests.item[place].astype(np.int32),
        np.ones(len(of), np.float32),
        np.zeros(len(of), np.int32),
    )
    examples = _examples(made, np.zeros(len(log), bool), added, shown_negatives=6)
    for number in range(len(examples)):
        batch = examples.batch(1, number)
        assert not (batch["shown"] == batch["positive"][:, None]).any()
