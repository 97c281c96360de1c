"""Views stand for their items in everything but the embedding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.data.examples import TrainingExamples
from pipelines.data.positives import Positives
from pipelines.data.views import Views
from pipelines.data.window import HistoryWindow


def views(begin: int, items: list[int], *, drawn: bool) -> Views:
    flags = np.full(len(items), drawn)
    return Views(begin, np.array(items, np.int32), np.ones((len(items), 2), np.float32), flags, flags)


def test_an_item_draws_itself_or_one_of_its_views_and_padding_stays() -> None:
    item = np.tile(np.arange(25), (3, 4))
    found = views(25, [3, 3, 5], drawn=True) + views(28, [7], drawn=False)
    seen: dict[int, set[int]] = {}
    for seed in range(30):
        rows = found.draw(item, np.random.default_rng(seed))
        assert (rows.dtype, rows.shape) == (np.int32, item.shape)
        for one, row in zip(item.ravel().tolist(), rows.ravel().tolist(), strict=True):
            seen.setdefault(one, set()).add(row)
    assert seen[3] == {3, 25, 26}
    assert seen[5] == {5, 27}
    assert all(rows == {one} for one, rows in seen.items() if one not in (3, 5))


def test_what_has_a_view_of_its_own_keeps_it(made: Any) -> None:
    log = made.behaviour.interactions
    plain = Positives.of(log, np.arange(40))
    one = replace(plain, view=np.where(plain.item == log.item[0], 26, 0).astype(np.int32))
    window = HistoryWindow(log, 5, has_times=True, user_language=np.zeros(15, np.int32))
    found = views(25, [int(log.item[0])], drawn=True) + views(26, [int(log.item[0])], drawn=False)
    built = TrainingExamples(
        *(made.behaviour, window, np.zeros(len(log), bool)),
        items=24,
        batch_size=40,
        shown_negatives=4,
        max_per_user=None,
        seed=3,
        whole_catalogue=True,
        added=one,
        views=found,
    )
    batch = built.batch(1, 0)
    assert (batch["view"][batch["positive"] == log.item[0]] == 26).all()
    assert (batch["view"] == 26).sum() == (one.view == 26).sum()
    # Nobody else is that view, and what is shown and all that there is may be the other one.
    assert not (batch["shown_view"] == 26).any()
    np.testing.assert_array_equal(batch["shown_view"] > 0, batch["shown"] > 0)
    assert batch["all_view"].shape == (25,)
    np.testing.assert_array_equal(np.delete(batch["all_view"], log.item[0]), np.delete(np.arange(25), log.item[0]))
