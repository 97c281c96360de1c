"""Windows and batches: causality, padding, negatives, and one pass over every example an epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipelines.data.augmentation import HistoryVariation
from pipelines.data.dataset import Dataset
from pipelines.data.examples import TrainingExamples
from pipelines.data.histories import load_behaviour
from pipelines.data.positives import Positives
from pipelines.data.window import NOBODY, HistoryWindow
from pipelines.recipe import HistoryAugmentation

Make = Callable[..., Dataset]


def window(made: Any, length: int = 5, *, ages: bool = True) -> HistoryWindow:
    log = made.behaviour.interactions
    return HistoryWindow(log, length, ages, np.arange(len(log.user_ids), dtype=np.int32), ["desktop", "mobile"])


def examples(made: Any, **changes: Any) -> TrainingExamples:
    settings = {"batch_size": 8, "shown_negatives": 3, "max_per_user": None, "seed": 1} | changes
    chosen = settings.pop("chosen", np.ones(len(made.behaviour.interactions), bool))
    return TrainingExamples(made.behaviour, window(made), chosen, items=len(made.catalogue), **settings)


def batches(made: Any, epoch: int = 1, **changes: Any) -> list[dict[str, np.ndarray]]:
    found = examples(made, **changes)
    return [found.batch(epoch, number) for number in range(len(found))]


@pytest.mark.parametrize("length", [1, 3, 50])
@pytest.mark.parametrize("ages", [True, False])
def test_a_window_is_the_end_of_the_history(made: Any, length: int, ages: bool) -> None:
    log = made.behaviour.interactions
    batch = window(made, length, ages=ages).batch(log.user, log.history_end, log.at, log.device)
    for row, (user, end, at) in enumerate(zip(log.user, log.history_end, log.at, strict=True)):
        places = range(log.user_offsets[user], end)[-length:]
        padding = [0] * (length - len(places))
        assert list(batch["history"][row]) == [log.item[place] for place in places] + padding
        expected = [at - log.at[place] if ages else 0 for place in places]
        assert list(batch["age_seconds"][row]) == expected + padding
        assert list(batch["dwell_seconds"][row]) == [log.dwell[place] for place in places] + padding
        assert list(batch["scroll_depth"][row]) == [log.scroll[place] for place in places] + padding
        assert batch["time_seconds"][row] == (at if ages else 0)
        assert list(expected) == sorted(expected, reverse=True)  # oldest first
        assert batch["language"][row] == user
    assert {name: values.dtype for name, values in batch.items()} == {
        "history": np.int32,
        "age_seconds": np.float32,
        "dwell_seconds": np.float32,
        "scroll_depth": np.float32,
        "language": np.int32,
        "device": np.int32,
        "time_seconds": np.int64,
    }


@pytest.mark.parametrize("length", [1, 3, 50])
def test_the_items_of_windows_are_those_of_their_batches(made: Any, length: int) -> None:
    log, cut = made.behaviour.interactions, window(made, length)
    for rows in (np.arange(len(log)), np.arange(0, len(log), 9), np.array([0])):
        user, end = np.r_[log.user[rows], NOBODY], np.r_[log.history_end[rows], 0]
        history = cut.batch(user, end, np.zeros(len(user), np.int64))["history"]
        assert list(cut.items(user, end)) == list(np.unique(history[history > 0]))


def test_what_comes_after_the_positive_cannot_change_its_window(made: Any) -> None:
    log = made.behaviour.interactions
    whole = window(made).batch(log.user, log.history_end, log.at)
    for row in range(0, len(log), 7):
        # Everything of the user from the positive on becomes something else.
        later = np.arange(log.history_end[row], log.user_offsets[log.user[row] + 1])
        assert row in later
        item, dwell, at, device = log.item.copy(), log.dwell.copy(), log.at.copy(), log.device.copy()
        item[later], dwell[later], at[later], device[later] = 1, 999, 10**9, "desktop"
        other = replace(log, item=item, dwell=dwell, at=at, device=device, scroll=np.where(dwell == 999, 1, log.scroll))
        changed = replace(window(made), interactions=other)
        here = np.array([row])
        found = changed.batch(log.user[here], log.history_end[here], log.at[here])
        for name, values in found.items():
            np.testing.assert_array_equal(values[0], whole[name][row])


def test_nothing_in_a_slate_s_window_is_as_late_as_the_slate(made: Any) -> None:
    requests = made.behaviour.requests
    batch = window(made, 50).batch(requests.user, requests.history_end, requests.at)
    assert (batch["age_seconds"][batch["history"] > 0] > 0).all()
    assert (batch["history"] > 0).any()


def test_a_log_without_positives_has_empty_windows(make_dataset: Make) -> None:
    shown = {"user_id": "a", "item_id": "i", "kind": "impression", "at": 1, "request_id": "r"}
    log = load_behaviour(make_dataset([shown], [{"item_id": "i"}]), np.array(["i"], object)).interactions
    batch = HistoryWindow(log, 4, True, np.array([2], np.int32)).batch(np.array([0]), np.array([0]), np.array([5]))
    assert {name: values.tolist() for name, values in batch.items()} == {
        "history": [[0] * 4],
        "age_seconds": [[0] * 4],
        "dwell_seconds": [[0] * 4],
        "scroll_depth": [[0] * 4],
        "language": [2],
        "device": [0],
        "time_seconds": [5],
    }


def test_the_device_is_the_query_s_own_or_the_most_recent_known(made: Any) -> None:
    log = made.behaviour.interactions
    cut = window(made)
    known = ["", *cut.devices]
    found = cut.batch(log.user, log.history_end, log.at, log.device)["device"]
    without = cut.batch(log.user, log.history_end, log.at)["device"]
    for row, (user, end) in enumerate(zip(log.user, log.history_end, strict=True)):
        before = [device for device in log.device[log.user_offsets[user] : end] if device]
        recent = before[-1] if before else ""
        assert known[without[row]] == recent
        assert known[found[row]] == (log.device[row] or recent)
    # Own and recent, where no own one is the recent one: every pair occurs.
    assert len(set(zip(found, without, strict=True))) == 7
    # A device that is given and not known is another one, not the most recent.
    toaster = np.full(len(log), "toaster", object)
    assert not cut.batch(log.user, log.history_end, log.at, toaster)["device"].any()


def test_nobody_is_a_user_with_an_empty_history_and_no_language(made: Any) -> None:
    log = made.behaviour.interactions
    cut = window(made)
    user, at = np.array([0]), np.array([77])
    unknown = replace(cut, user_language=np.zeros(len(log.user_ids), np.int32))
    expected = unknown.batch(user, log.user_offsets[user], at)
    for name, values in cut.batch(np.array([NOBODY]), np.array([0]), at).items():
        np.testing.assert_array_equal(values, expected[name])
        assert values.dtype == expected[name].dtype


def test_every_example_comes_once_an_epoch(made: Any) -> None:
    log = made.behaviour.interactions
    chosen = np.random.default_rng(0).random(len(log)) < 0.6
    chosen[np.flatnonzero(chosen)[: chosen.sum() % 8]] = False
    for epoch in (1, 2):
        positives = np.concatenate([batch["positive"] for batch in batches(made, epoch, chosen=chosen)])
        assert sorted(positives) == sorted(log.item[chosen])


@pytest.mark.parametrize(("rows", "expected"), [(16, [8, 8]), (17, [8, 8]), (18, [8, 8, 2]), (1, []), (0, [])])
def test_a_last_batch_of_one_is_left_out(made: Any, rows: int, expected: list[int]) -> None:
    chosen = np.arange(len(made.behaviour.interactions)) < rows
    assert [len(batch["positive"]) for batch in batches(made, chosen=chosen)] == expected


def test_batches_depend_on_seed_epoch_and_number_alone(made: Any) -> None:
    first, second = examples(made), examples(made)
    for epoch, number in ((2, 1), (1, 0), (2, 1), (1, 3)):  # in any order
        left, right = first.batch(epoch, number), examples(made).batch(epoch, number)
        assert all(np.array_equal(left[name], right[name]) for name in left)
    assert not np.array_equal(first.batch(1, 0)["positive"], second.batch(2, 0)["positive"])
    assert not np.array_equal(first.batch(1, 0)["positive"], examples(made, seed=2).batch(1, 0)["positive"])


def test_negatives_are_other_unclicked_known_items_of_the_slate(made: Any) -> None:
    log, requests = made.behaviour.interactions, made.behaviour.requests
    found = examples(made, batch_size=len(log), shown_negatives=4)
    order = np.random.default_rng((1, 1)).permutation(found.rows)
    batch = found.batch(1, 0)
    np.testing.assert_array_equal(batch["positive"], log.item[order])
    for row, shown in zip(order, batch["shown"], strict=True):
        if log.request[row] < 0:
            assert not shown.any()
            continue
        slate = slice(requests.offsets[log.request[row]], requests.offsets[log.request[row] + 1])
        allowed = set(requests.item[slate][~requests.clicked[slate]]) - {0}
        drawn = [item for item in shown if item]
        assert set(drawn) <= allowed
        assert len(drawn) == len(set(drawn)) == min(4, len(allowed))
        assert list(shown) == drawn + [0] * (4 - len(drawn))
        assert log.item[row] not in drawn


def test_negatives_are_drawn_anew_each_epoch(made: Any) -> None:
    def drawn(epoch: int) -> list[tuple[int, ...]]:
        found = batches(made, epoch, shown_negatives=1)
        pairs = np.concatenate([np.column_stack([batch["positive"], batch["shown"]]) for batch in found])
        return sorted(map(tuple, pairs.tolist()))

    assert drawn(1) != drawn(2)


def test_no_negatives_are_an_empty_column(made: Any) -> None:
    assert batches(made, shown_negatives=0)[0]["shown"].shape == (8, 0)


@pytest.mark.parametrize("most", [1, 3])
def test_of_each_user_the_newest_are_kept(made: Any, most: int) -> None:
    log = made.behaviour.interactions
    chosen = np.random.default_rng(0).random(len(log)) < 0.7
    found = examples(made, chosen=chosen, max_per_user=most)
    expected = [row for user in range(len(log.user_ids)) for row in np.flatnonzero(chosen & (log.user == user))[-most:]]
    assert list(found.rows) == expected


def test_probability_is_the_share_of_the_training_positives(made: Any) -> None:
    log = made.behaviour.interactions
    chosen = log.user < 6
    found = examples(made, chosen=chosen)
    assert found.probability.sum() == pytest.approx(1)
    assert found.probability[0] == 0
    batch = found.batch(1, 0)
    share = [(log.item[chosen] == item).mean() for item in batch["positive"]]
    np.testing.assert_allclose(batch["probability"], share, rtol=1e-6)


@pytest.mark.parametrize("most", [1, 3, None])
def test_probability_of_others_is_how_often_an_item_is_a_positive_over_many_epochs(made: Any, most: int | None) -> None:
    log, epochs = made.behaviour.interactions, 400
    added = Positives.of(log, np.array([3, 5, 5]))
    settings = {"histories": "others", "max_per_user": most, "added": added, "batch_size": 4096, "shown_negatives": 0}
    found = examples(made, chosen=np.arange(len(log)) % 7 > 0, **settings)
    seen = np.zeros((epochs, len(made.catalogue) + 1))
    for epoch in range(epochs):
        (batch,) = [found.batch(epoch, number) for number in range(len(found))]
        seen[epoch] = np.bincount(batch["positive"], minlength=seen.shape[1]) / len(batch["positive"])
    error = seen.std(axis=0) / np.sqrt(epochs)
    assert (np.abs(seen.mean(axis=0) - found.probability) <= 4 * error + 1e-6).all()
    assert ((found.probability > 0) == (seen.sum(axis=0) > 0)).all()


def test_histories_of_others_are_the_user_s_other_training_positives(made: Any) -> None:
    log = made.behaviour.interactions
    chosen = np.arange(len(log)) % 3 > 0
    built = TrainingExamples(
        made.behaviour,
        window(made, length=200),
        chosen,
        items=len(made.catalogue),
        batch_size=16,
        shown_negatives=0,
        max_per_user=None,
        seed=1,
        histories="others",
        whole_catalogue=True,
    )
    seen = 0
    for number in range(len(built)):
        batch = built.batch(1, number)
        asked = built._order[1][number * 16 : number * 16 + 16]
        for place, (user, item) in enumerate(zip(asked.user, asked.item, strict=True)):
            mine = log.item[chosen & (log.user == user)]
            history = batch["history"][place]
            assert sorted(history[history > 0]) == sorted(mine[mine != item])
            np.testing.assert_array_equal(np.flatnonzero(batch["read"][place]), np.unique(mine))
            seen += 1
    assert seen >= chosen.sum() - 1


def test_others_are_drawn_anew_each_epoch_and_so_are_the_positives_kept(made: Any) -> None:
    settings = {"histories": "others", "max_per_user": 2, "batch_size": 8, "shown_negatives": 0}
    built = examples(made, **settings)
    kept = []
    for epoch in (1, 2):
        built.batch(epoch, 0)
        drawn = built._order[1]
        assert np.bincount(drawn.user).max() <= 2
        assert len(drawn) == len(built.rows)
        kept.append(set(zip(drawn.user, drawn.history_end, drawn.item, strict=True)))
    assert kept[0] != kept[1]
    again = examples(made, **settings)
    for name, values in built.batch(2, 0).items():
        np.testing.assert_array_equal(values, again.batch(2, 0)[name])


def test_a_mask_thins_histories_and_keeps_their_order(made: Any) -> None:
    varied = HistoryVariation(HistoryAugmentation(mask=0.5), np.zeros((25, 1), np.int32), made.catalogue.published_at)
    whole, thinned = batches(made), batches(made, augmentation=varied)
    sizes = [sum((batch["history"] > 0).sum() for batch in each) for each in (whole, thinned)]
    assert 0.35 < sizes[1] / sizes[0] < 0.65
    for left, right in zip(whole, thinned, strict=True):
        for full, few in zip(left["history"], right["history"], strict=True):
            few = few[few > 0]
            rest = iter(full)
            assert all(item in rest for item in few)
        assert ((right["history"] > 0)[:, :-1] >= (right["history"] > 0)[:, 1:]).all()


def test_positives_count_by_their_dwell_where_it_is_known(made: Any) -> None:
    dwell = made.behaviour.interactions.dwell
    built = examples(made, dwell_power=0.5)
    known = built.rows[dwell[built.rows] > 0]
    assert built.weight[known].mean() == pytest.approx(1, abs=1e-5)
    assert (built.weight[dwell == 0] == 1).all()
    order = np.argsort(dwell[known])
    assert (np.diff(built.weight[known][order]) >= 0).all()
    assert (examples(made).weight == 1).all()
