"""Varied histories: what stays, what cannot come in, and what is drawn anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipelines.data.augmentation import HistoryVariation
from pipelines.data.examples import TrainingExamples
from pipelines.data.window import HistoryWindow
from pipelines.recipe import HistoryAugmentation

HISTORY = ("history", "age_seconds", "dwell_seconds", "scroll_depth")
Batches = list[dict[str, np.ndarray]]


def examples(made: Any, log: Any = None, **shares: float) -> TrainingExamples:
    behaviour = made.behaviour if log is None else replace(made.behaviour, interactions=log)
    log = behaviour.interactions
    items = len(made.catalogue)
    similar = np.zeros((items + 1, 4), np.int32)
    similar[1:] = (np.arange(items)[:, None] + np.arange(1, 5)) % items + 1
    window = HistoryWindow(log, 6, has_times=True, user_language=np.zeros(15, np.int32))
    return TrainingExamples(
        behaviour,
        window,
        np.ones(len(log), bool),
        items=items,
        batch_size=16,
        shown_negatives=3,
        max_per_user=None,
        seed=5,
        augmentation=HistoryVariation(HistoryAugmentation(**shares), similar, made.catalogue.published_at)
        if shares
        else None,
    )


def batches(made: Any, epoch: int = 1, **shares: float) -> Batches:
    found = examples(made, **shares)
    return [found.batch(epoch, number) for number in range(len(found))]


ALL = {"crop": 0.3, "mask": 0.2, "substitute": 0.5, "reorder": 0.6}
EACH = [{name: share} for name, share in ALL.items()]


@pytest.mark.parametrize("shares", [*EACH, ALL], ids=str)
def test_only_histories_change_and_their_padding_stays_at_the_end(made: Any, shares: dict[str, float]) -> None:
    changed = False
    for plain, varied in zip(batches(made), batches(made, **shares), strict=True):
        for name, values in plain.items():
            if name not in HISTORY:
                np.testing.assert_array_equal(varied[name], values)
            assert varied[name].dtype == values.dtype
            assert varied[name].shape == values.shape
        there = varied["history"] > 0
        assert (there[:, :-1] >= there[:, 1:]).all()
        assert (there.sum(axis=1) <= (plain["history"] > 0).sum(axis=1)).all()
        for name in HISTORY:
            assert not varied[name][~there].any()
        # Also where the order is drawn anew, ages are as those of a history.
        ages = np.where(there, varied["age_seconds"], 0)
        assert (ages[:, :-1] >= ages[:, 1:]).all()
        changed |= not np.array_equal(plain["history"], varied["history"])
    assert changed


@pytest.mark.parametrize("shares", [*EACH, ALL], ids=str)
def test_variations_are_drawn_anew_each_epoch_and_with_the_seed(made: Any, shares: dict[str, float]) -> None:
    first, again = examples(made, **shares), examples(made, **shares)
    for name, values in first.batch(2, 1).items():
        np.testing.assert_array_equal(values, again.batch(2, 1)[name])
    # The same row in two epochs: all of the log's histories as one sorted list.
    drawn = [sorted(map(tuple, np.concatenate([b["history"] for b in batches(made, e, **shares)]))) for e in (1, 2)]
    assert drawn[0] != drawn[1]


def test_a_crop_is_a_run_of_the_history_of_the_length_that_is_kept(made: Any) -> None:
    for plain, varied in zip(batches(made), batches(made, crop=0.4), strict=True):
        for whole, part in zip(plain["history"], varied["history"], strict=True):
            whole, part = whole[whole > 0].tolist(), part[part > 0].tolist()
            assert len(part) == int(np.ceil(len(whole) * 0.6))
            assert any(whole[start : start + len(part)] == part for start in range(len(whole) + 1))


def test_reordering_keeps_the_events_and_moves_one_run(made: Any) -> None:
    for plain, varied in zip(batches(made), batches(made, reorder=0.5), strict=True):
        np.testing.assert_array_equal(plain["age_seconds"], varied["age_seconds"])
        for row in range(len(plain["history"])):
            events, moved = (
                list(zip(*(batch[name][row] for name in ("history", "dwell_seconds", "scroll_depth")), strict=True))
                for batch in (plain, varied)
            )
            assert sorted(events) == sorted(moved)
            length = int((plain["history"][row] > 0).sum())
            apart = [place for place in range(length) if events[place] != moved[place]]
            assert not apart or apart[-1] - apart[0] < np.ceil(length * 0.5)


def test_a_substitute_is_similar_was_out_then_and_is_not_the_positive(made: Any) -> None:
    published, items = made.catalogue.published_at, len(made.catalogue)
    seen = 0
    for plain, varied in zip(batches(made), batches(made, substitute=0.9), strict=True):
        apart = plain["history"] != varied["history"]
        row, column = np.nonzero(apart)
        new, old = varied["history"][apart], plain["history"][apart]
        assert (((new - old) % items <= 4) & (new != old)).all()
        assert (new != plain["positive"][row]).all()
        at = plain["time_seconds"][row] - plain["age_seconds"][row, column]
        assert (published[new - 1] <= at).all()
        seen += len(new)
    assert seen > 100


def test_what_comes_after_a_positive_cannot_change_its_varied_history(made: Any) -> None:
    log = made.behaviour.interactions
    row = int(np.flatnonzero(log.history_end - log.user_offsets[log.user] >= 4)[5])
    later = np.arange(log.history_end[row], log.user_offsets[log.user[row] + 1])
    item, dwell = log.item.copy(), log.dwell.copy()
    item[later[later != row]], dwell[later] = 24, 999
    number = examples(made)
    changed = examples(made, replace(log, item=item, dwell=dwell), **ALL)
    plain = examples(made, **ALL)
    order = np.random.default_rng((5, 1)).permutation(len(log))
    place = int(np.flatnonzero(order == row)[0])
    assert place // 16 < len(number), "the row is alone in the last batch, which is left out: choose another"
    for name in HISTORY:
        one, other = (each.batch(1, place // 16)[name][place % 16] for each in (plain, changed))
        np.testing.assert_array_equal(one, other)


def test_a_history_of_nothing_or_one_event_stays(made: Any) -> None:
    varied = HistoryVariation(HistoryAugmentation(crop=0.9, reorder=0.9), np.zeros((25, 1), np.int32), np.zeros(24))
    rng = np.random.default_rng(1)
    place = np.arange(8).reshape(2, 4)
    there = np.array([[False] * 4, [True, False, False, False]])
    kept, still = varied.shortened(place, there, rng)
    np.testing.assert_array_equal(still, there)
    assert kept[1, 0] == 4
