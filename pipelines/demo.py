"""The whole path in one command: newsroom, training, evaluation, export, serving, one personalised feed."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.dataset import Dataset
from pipelines.data.histories import Interactions
from pipelines.data.sources.newsroom import import_newsroom
from pipelines.evaluation import evaluate
from pipelines.feeds import article, last_read, request_of
from pipelines.feeds import feed_lines as user_lines
from pipelines.prepare import prepare_for
from pipelines.progress import say
from pipelines.recipe import Recipe
from pipelines.run import EVALUATION, EVALUATION_PAGE, Run
from pipelines.saved_model import export
from pipelines.served import Served, model_server, one_row
from pipelines.training import train

_SHOWN = 10


@contextlib.contextmanager
def demo(out: Path, *, seed: int) -> Iterator[dict[str, Any]]:
    """Run everything below `out` and yield what happened while the model server is up."""
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    step = _Steps(start)
    step("making a newsroom: articles, readers and two weeks of clicks")
    import_newsroom("small", out / "data", seed=seed, name="newsroom")
    data = Dataset.open(out / "data")
    step(f"training two towers on {data.info.events:,} events ({', '.join(data.info.languages)})")
    recipe = Recipe.shipped("demo").changed({"training.seed": seed})
    train(recipe, data, out / "run")
    run = Run.open(out / "run")
    step("evaluating on the last days, beside popularity and newest-first")
    metrics = evaluate(run, out=run.folder / EVALUATION, report=run.folder / EVALUATION_PAGE)
    say(str(metrics))
    step("exporting the SavedModel")
    version = export(run, out / "models" / "feed")
    step("serving it on loopback and asking for a feed by REST and by gRPC")
    with model_server(out / "models" / "feed", out / "model-server.log") as served:
        feed = _feed(run, data, served)
        yield {
            "seconds": round(time.monotonic() - start, 1),
            "dataset": str(data.folder),
            "run": str(run.folder),
            "version": str(version),
            "rest": served.url,
            "grpc": f"127.0.0.1:{served.grpc_port}",
            "evaluation": metrics,
            **feed,
        }


def feed_lines(result: dict[str, Any]) -> list[str]:
    """The feed for a reader: what the user had read, then what they get."""
    feed = [line.replace("Their feed:", "Their feed, by REST and by gRPC alike:") for line in user_lines(result)]
    lines = ["", *feed]
    lines += ["", f"From logs to this feed in {result['seconds']:.0f} s. REST {result['rest']}, gRPC {result['grpc']}"]
    return lines


def wait_for_stop(result: dict[str, Any]) -> None:
    """Keep the server up until the user stops it with Ctrl-C or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    say(f"serving until Ctrl-C: curl {result['rest']}/metadata")
    while not stop.wait(1.0):
        pass


class _Steps:
    def __init__(self, start: float) -> None:
        self.start, self.number = start, 0

    def __call__(self, what: str) -> None:
        self.number += 1
        say(f"[{time.monotonic() - self.start:4.0f} s] {self.number}. {what}")


def _feed(run: Run, data: Dataset, served: Served) -> dict[str, Any]:
    prepared = prepare_for(run, data)
    catalogue, log = prepared.catalogue, prepared.behaviour.interactions
    user = _reader(log)
    request = request_of(prepared, run.recipe.features.history, user)
    by_rest = served.ask_rest("recommend", request)
    by_grpc = served.ask_grpc("recommend", one_row(request))
    same = [item.decode() for item in by_grpc["ids"][0]] == by_rest["ids"]
    if not same or not np.allclose(by_grpc["scores"][0], by_rest["scores"], atol=1e-5):
        raise AssertionError("REST and gRPC gave different feeds")
    place = {str(item): row for row, item in enumerate(catalogue.ids)}
    return {
        "user": str(log.user_ids[user]),
        "language": request["language"],
        "read": last_read(prepared, user),
        "feed": [
            {**article(catalogue, place[item]), "score": value}
            for item, value in zip(by_rest["ids"][:_SHOWN], by_rest["scores"][:_SHOWN], strict=True)
            if item
        ],
    }


def _reader(log: Interactions) -> int:
    """A user to show: among the English-speaking ones where there are any, the one with a middling history."""
    sizes = np.diff(log.user_offsets)
    english = np.flatnonzero(log.user_language == "en")
    chosen = english if len(english) else np.arange(len(sizes))
    return int(chosen[np.argsort(sizes[chosen], kind="stable")[int(len(chosen) * 0.75)]])
