"""The exported model behind the real model server, as a process of its own."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.data.dataset import Dataset
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared, prepare
from pipelines.rankers import Queries
from pipelines.run import Run
from pipelines.served import model_server, one_row


@pytest.fixture(scope="module")
def data(run_folder: Path, dataset_folder: Path) -> Prepared:
    return prepare(Dataset.open(dataset_folder), Run.open(run_folder).recipe)


def request(data: Prepared, user: int) -> dict[str, Any]:
    log = data.behaviour.interactions
    rows = np.arange(log.user_offsets[user], log.user_offsets[user + 1])
    end = int(log.at.max())
    return {
        "history_ids": [str(data.catalogue.ids[item - 1]) for item in log.item[rows]],
        "history_age_seconds": [float(end - at) for at in log.at[rows]],
        "history_dwell_seconds": [float(dwell) for dwell in log.dwell[rows]],
        "history_scroll_depth": [float(depth) for depth in log.scroll[rows]],
        "language": str(log.user_language[user]),
        "device": "tablet",
        "time_seconds": end,
        "exclude_ids": [""],
    }


def test_rest_grpc_and_the_python_model_give_the_same_feed(
    model_folder: Path, run_folder: Path, data: Prepared, tmp_path: Path
) -> None:
    log = data.behaviour.interactions
    ranker = ModelRanker(Run.open(run_folder).model(data.catalogue), data.window)
    with model_server(model_folder, tmp_path / "log") as served:
        for user in (0, 17, 41):
            asked = request(data, user)
            rest = served.ask_rest("recommend", asked)
            grpc = served.ask_grpc("recommend", one_row(asked))
            assert [item.decode() for item in grpc["ids"][0]] == rest["ids"]
            np.testing.assert_allclose(rest["scores"], grpc["scores"][0], atol=1e-5)
            queries = Queries(
                np.array([user]), log.user_offsets[[user + 1]], np.array([log.at.max()]), np.array(["tablet"])
            )
            scores = (ranker.embed(queries) @ ranker.items.T)[0]
            scores[log.item[log.user_offsets[user] : log.user_offsets[user + 1]] - 1] = -np.inf
            best = np.argsort(-scores, kind="stable")[:10]
            assert rest["ids"] == [str(data.catalogue.ids[place]) for place in best]
            np.testing.assert_allclose(rest["scores"], scores[best], atol=1e-4)


def test_a_newer_version_is_picked_up_and_no_request_fails(model_folder: Path, data: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "feed"
    shutil.copytree(model_folder / "1", folder / "1")
    asked, failures, answers, stop = request(data, 3), [], [], threading.Event()
    with model_server(folder, tmp_path / "log") as served:

        def ask() -> None:
            while not stop.is_set():
                try:
                    answers.append(served.ask_rest("recommend", asked)["ids"])
                    served.ask_grpc("recommend", one_row(asked))
                except Exception as error:
                    failures.append(error)

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        shutil.copytree(model_folder / "1", tmp_path / "draft")
        (tmp_path / "draft").rename(folder / "2")
        deadline = time.monotonic() + 60
        while newest(served.url) != "2" and time.monotonic() < deadline:
            stop.wait(0.1)
        stop.set()
        for client in clients:
            client.join()
        assert newest(served.url) == "2"
    assert not failures
    assert answers
    assert all(ids == answers[0] for ids in answers)


def newest(url: str) -> str | None:
    import json
    import urllib.request

    with urllib.request.urlopen(url, timeout=10) as answer:
        states = json.loads(answer.read())["model_version_status"]
    available = [state["version"] for state in states if state["state"] == "AVAILABLE"]
    return max(available, key=int) if available else None
