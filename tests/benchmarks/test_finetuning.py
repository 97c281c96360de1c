"""What the fine-tuning benchmarks print, and the catalogue that one of them makes up."""

from __future__ import annotations

import numpy as np

from benchmarks.finetuning.parts import Share, milliseconds, table
from benchmarks.finetuning.scaling import _behaviour


def test_what_is_paid_once_an_epoch_is_spread_over_its_steps() -> None:
    lines = table([Share("forward", 30.0), Share("renewal", 200.0, per_step=False)], steps=10, seconds=1.0).split("\n")
    assert [line.split()[-5:] for line in lines[:3]] == [
        [value, "ms", "a", "step", share] for value, share in (("30.0", "30%"), ("20.0", "20%"), ("50.0", "50%"))
    ]


def test_a_part_that_is_run_on_one_batch_has_a_time() -> None:
    seen: list[int] = []
    assert milliseconds(seen.append, [1]) >= 0
    assert seen == [1, 1]  # once to warm up


def test_the_made_up_users_were_shown_something_after_what_they_read() -> None:
    behaviour, window = _behaviour(500, np.random.default_rng(1))
    log, requests = behaviour.interactions, behaviour.requests
    positives = np.flatnonzero(log.request >= 0)
    assert (log.item[positives] == requests.item[requests.clicked]).all()
    assert (log.history_end[positives] == requests.history_end).all()
    history = window.batch(log.user[positives], log.history_end[positives], log.at[positives])["history"]
    assert ((history > 0).sum(axis=1) == 20).all()
