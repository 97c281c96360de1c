"""The whole path in one command: newsroom, training, evaluation, export, serving, one personalised feed."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.dataset import Dataset
from pipelines.data.histories import Interactions
from pipelines.data.sources.newsroom import import_newsroom
from pipelines.data.sources.newsroom.sizes import END
from pipelines.evaluation import evaluate
from pipelines.feeds import article, last_read, request_of
from pipelines.feeds import feed_lines as user_lines
from pipelines.prepare import prepare_for
from pipelines.progress import say
from pipelines.quantisation.quiet import quiet
from pipelines.recipe import Recipe
from pipelines.registry import Registry
from pipelines.run import EVALUATION, EVALUATION_PAGE, Run
from pipelines.saved_model import export
from pipelines.served import one_row
from pipelines.stopping import stop_on_signals
from pipelines.store_filling import fill_store
from pipelines.training import train
from pipelines.version_book import RegistryBook
from serving.client import Client
from serving.gateway.clock import wall_clock
from serving.gateway.stack import ServingStack

_MODEL = "feed"
_SHOWN = 10
# A fallback would be no personalised feed: the first answers may take their time on a busy machine.
_DEADLINE_MS = 5_000


@contextlib.contextmanager
def demo(out: Path, *, seed: int) -> Iterator[dict[str, Any]]:
    """Run everything below `out` and yield what happened while the gateway and its model server are up.

    They run in this process, by a clock that began at the end of the newsroom's last day: its articles are news then.
    """
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
    models, store = out / "models", out / "demo-store"  # not `store`: that may be somebody's own
    version = export(run, models / _MODEL)
    Registry(models).add(_MODEL, int(version.name), "the demo's")
    Registry(models).promote(_MODEL, int(version.name), "the demo's")
    step("filling a store with articles and clicks, and serving from it: a gateway and a model server on loopback")
    # What was clicked in an earlier demo is not this one's.
    if store.exists():
        shutil.rmtree(store)
    say(str(fill_store(data, store)))
    with _serving(store, models) as stack:
        feed = _feed(run, data, stack)
        yield {
            "seconds": round(time.monotonic() - start, 1),
            "dataset": str(data.folder),
            "run": str(run.folder),
            "version": str(version),
            "store": str(store),
            "gateway": stack.url,
            "console": f"{stack.url}/?user={feed['user']}",
            "rest": f"{stack.rest_url}/v1/models/{_MODEL}",
            "grpc": stack.grpc_target,
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
    """Keep the servers up until the user stops them with Ctrl-C or SIGTERM."""
    say(f"This feed in a browser, until Ctrl-C: {result['console']}")
    with stop_on_signals() as stop:
        while not stop.wait(1.0):
            pass


class _Steps:
    def __init__(self, start: float) -> None:
        self.start, self.number = start, 0

    def __call__(self, what: str) -> None:
        self.number += 1
        say(f"[{time.monotonic() - self.start:4.0f} s] {self.number}. {what}")


@contextlib.contextmanager
def _serving(store: Path, models: Path) -> Iterator[ServingStack]:
    # What was published after the last visit counts too.
    ahead = wall_clock() - 1_000_000 * END
    stack = ServingStack(
        store,
        models,
        clock=lambda: wall_clock() - ahead,
        version_book=lambda name: RegistryBook(models, name),
        deadline_ms=_DEADLINE_MS,
        log_requests=False,
    )
    try:
        # TensorFlow's own remarks on a graph that it loads are none of the reader's business.
        with quiet():
            stack.start()
        yield stack
    finally:
        stack.stop()


def _feed(run: Run, data: Dataset, stack: ServingStack) -> dict[str, Any]:
    prepared = prepare_for(run, data)
    catalogue, log = prepared.catalogue, prepared.behaviour.interactions
    user = _reader(log)
    request = request_of(prepared, run.recipe.features.history, user)
    answers = []
    for target in (str(stack.rest_url), f"grpc://{stack.grpc_target}"):
        with Client(target, timeout=_DEADLINE_MS / 1_000) as client:
            answers.append(client.predict(_MODEL, one_row(request), signature="recommend").outputs)
    by_rest, by_grpc = answers
    same = np.array_equal(by_grpc["ids"], by_rest["ids"])
    if not same or not np.allclose(by_grpc["scores"], by_rest["scores"], atol=1e-5):
        raise AssertionError("REST and gRPC gave different feeds")
    feed = [(item.decode(), float(score)) for item, score in zip(by_rest["ids"][0], by_rest["scores"][0], strict=True)]
    place = {str(item): row for row, item in enumerate(catalogue.ids)}
    return {
        "user": str(log.user_ids[user]),
        "language": request["language"],
        "read": last_read(prepared, user),
        "feed": [{**article(catalogue, place[item]), "score": score} for item, score in feed[:_SHOWN] if item],
    }


def _reader(log: Interactions) -> int:
    """A user to show: among the English-speaking ones where there are any, the one with a middling history."""
    sizes = np.diff(log.user_offsets)
    english = np.flatnonzero(log.user_language == "en")
    chosen = english if len(english) else np.arange(len(sizes))
    return int(chosen[np.argsort(sizes[chosen], kind="stable")[int(len(chosen) * 0.75)]])
