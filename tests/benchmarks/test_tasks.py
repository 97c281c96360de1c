from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.quality.protocol import Exam, Fitted, Method, Task, Training
from benchmarks.quality.run import run
from benchmarks.quality.tasks.articles import one_of_each_group
from benchmarks.quality.tasks.parts import restrict
from benchmarks.quality.worker import choose
from benchmarks.quality.worker import run as run_method
from pipelines.rankers import FixedOrder, Ranker


def test_data_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BELFRY_DATA", str(tmp_path))
    assert run("ml100k", results=tmp_path / "results") == 0
    assert capsys.readouterr().out.splitlines() == [
        "left out: set BELFRY_DATA to a folder that holds ml100k (not distributed with Belfry)"
    ]
    assert not (tmp_path / "results").exists()


def test_one_user_is_kept_of_each_group_and_one_row_of_each_article() -> None:
    clicks = pd.DataFrame(
        {"user_id": ["1", "2", "1", "3", "3"], "article_id": ["a", "a", "b", "a", "a"], "title": ["t"] * 5}
    )
    kept = one_of_each_group(clicks, pd.DataFrame({"user_id": ["1", "2"], "group": ["1", "1"]}))
    assert list(zip(kept["user_id"], kept["article_id"], strict=True)) == [("1", "a"), ("1", "b"), ("3", "a")]


def test_a_restricted_view_holds_no_trace_of_what_was_left_out(sequences: Any) -> None:
    view = sequences(1)
    log = view.behaviour.interactions
    keep = np.random.default_rng(1).random(len(log)) < 0.6
    rest = restrict(view, keep).behaviour.interactions
    assert len(rest) == keep.sum()
    for user in range(len(log.user_ids)):
        own = slice(log.user_offsets[user], log.user_offsets[user + 1])
        kept = slice(rest.user_offsets[user], rest.user_offsets[user + 1])
        assert rest.item[kept].tolist() == log.item[own][keep[own]].tolist()


class _Judge:
    def __init__(self, column: int) -> None:
        self.column = column

    def metrics(self, ranker: Ranker) -> dict[str, np.ndarray]:
        assert isinstance(ranker, FixedOrder)
        return {"m": ranker.values[self.column : self.column + 1]}


def test_settings_are_chosen_on_the_folds_and_never_on_the_test(sequences: Any) -> None:
    view = sequences(1)
    training = Training.of_all(view)
    # A setting is (its value on the fold, its value on the test).
    method = Method("x", lambda _, pair: Fitted(lambda _: FixedOrder("x", np.array(pair))), {"pair": [(1, 9), (2, 5)]})
    task = Task(
        name="t",
        about="",
        metric="m",
        columns=("m",),
        folds=((training, Exam(view, _Judge(0))),),
        training=training,
        exams={"test": Exam(view, _Judge(1))},
    )
    assert choose(task, method) == ({"pair": (2, 5)}, 2.0)
    told, rows = run_method(task, method)
    assert rows["test/m"].tolist() == [5]
    assert told["validation"] == 2.0
    assert told["settings_tried"] == 2
    assert told["peak_mib"] > 10
