"""One user's feed, and what a served model is asked for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.answers import recommend
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.feeds import feed, model_inputs
from pipelines.run import Run
from serving.client import Client
from serving.model_server import ModelServer, Options


def test_a_feed_is_what_recommend_writes_with_titles(run_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    run, data = Run.open(run_folder), Dataset.open(dataset_folder)
    found = feed(run, data, "u07", k=4)
    assert recommend(run, data, tmp_path / "feed.tsv", k=4, users=["u07"]) == 4
    written = [line.split("\t") for line in (tmp_path / "feed.tsv").read_text().splitlines()[1:]]
    assert [(row["item_id"], row["rank"]) for row in found.rows()] == [(row[1], int(row[2])) for row in written]
    assert [row["score"] for row in found.rows()] == pytest.approx([float(row[3]) for row in written], rel=1e-6)
    assert all(row["title"] in str(found) for row in found["read"] + found["feed"])


def test_a_served_model_gives_the_same_feeds(run_folder: Path, dataset_folder: Path, model_folder: Path) -> None:
    run, data = Run.open(run_folder), Dataset.open(dataset_folder)
    users = ["u07", "nobody", "u31"]
    inputs = model_inputs(run, data, users)
    assert {len(value) for value in inputs.values()} == {3}
    assert not any(inputs["history_ids"][1])
    with ModelServer(Options(model_name="small", model_base_path=model_folder)) as server, Client(server) as client:
        answer = client.predict("small", inputs, signature="recommend")
    for row, user in ((0, "u07"), (2, "u31")):
        served = [item.decode() for item in answer.outputs["ids"][row][:4]]
        assert served == [each["item_id"] for each in feed(run, data, user, k=4).rows()]


def test_who_is_not_there_is_told(run_folder: Path, dataset_folder: Path) -> None:
    run, data = Run.open(run_folder), Dataset.open(dataset_folder)
    with pytest.raises(BadInput, match="has no user 'nobody'"):
        feed(run, data, "nobody")
    with pytest.raises(BadInput, match="at least one user"):
        model_inputs(run, data, [])


def test_the_course_of_a_training_can_be_plotted(run_folder: Path) -> None:
    run = Run.open(run_folder)
    rows = run.history()
    metric = f"validation {run.metrics['validation']['metric']}"
    assert [row["epoch"] for row in rows] == list(range(len(rows)))
    assert [row[metric] for row in rows] == pytest.approx(run.metrics["validation"]["by_epoch"])
    assert rows[0]["loss"] is None
    assert all(isinstance(row["loss"], float) for row in rows[1:])
