"""For tests of what stands above a model server: a small model with the signatures of an exported recommender, and
real databases, each a process of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import psycopg
import pytest
import tensorflow as tf

from serving.model_server import ModelServer, Options

CATEGORIES = ["sport", "food", "politics", "weather"]
LANGUAGES = ["en", "de"]
COUNT, WIDTH, TOP = 40, 8, 20

_IDS = {"history_ids": [None, None], "language": [None], "device": [None]}
_REQUEST = {
    **{name: tf.TensorSpec(shape, tf.string, name) for name, shape in _IDS.items()},
    **{
        f"history_{name}": tf.TensorSpec([None, None], tf.float32, f"history_{name}")
        for name in ("age_seconds", "dwell_seconds", "scroll_depth")
    },
    "time_seconds": tf.TensorSpec([None], tf.int64, "time_seconds"),
}
_LIVE = {
    "live_ids": tf.TensorSpec([None, None], tf.string, "live_ids"),
    "live_embeddings": tf.TensorSpec([None, None, None], tf.float32, "live_embeddings"),
    "live_category": tf.TensorSpec([None, None], tf.string, "live_category"),
    "live_tags": tf.TensorSpec([None, None, None], tf.string, "live_tags"),
    "live_published_seconds": tf.TensorSpec([None, None], tf.int64, "live_published_seconds"),
}


def _ids(name: str) -> tf.TensorSpec:
    return tf.TensorSpec([None, None], tf.string, name)


class Toy(tf.Module):
    """Items i00 to i39; an item's vector is its category's and a little of its title's length; a user is the mean of
    what was read. Deterministic, and a feed that follows the categories somebody read."""

    def __init__(self, live: bool) -> None:
        super().__init__()
        self.live = live
        self.categories = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(CATEGORIES), tf.range(len(CATEGORIES))), -1
        )
        ids = [f"i{number:02}" for number in range(COUNT)]
        self.ids = tf.constant(["", *ids])
        self.index = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(ids), tf.range(1, COUNT + 1)), 0
        )
        category = tf.range(COUNT) % len(CATEGORIES)
        vectors = tf.one_hot(category, WIDTH) + tf.range(COUNT, dtype=tf.float32)[:, None] * 1e-3
        self.vectors = tf.concat([tf.zeros([1, WIDTH]), vectors], 0)

    def embed_items(self, **item: Any) -> Any:
        length = tf.cast(tf.strings.length(item["title"]), tf.float32)[:, None]
        return {"embedding": tf.one_hot(self.categories.lookup(item["category"]), WIDTH) + length * 1e-3}

    def _user(self, request: Any) -> Any:
        vectors = tf.gather(self.vectors, self.index.lookup(request["history_ids"]))
        count = tf.cast(self.index.lookup(request["history_ids"]) > 0, tf.float32)
        if "live_ids" in request:
            same = (request["history_ids"][:, :, None] == request["live_ids"][:, None, :]) & (
                request["history_ids"][:, :, None] != ""
            )
            same = tf.cast(same, tf.float32)
            found = tf.reduce_max(same, axis=-1) if self.live else 0.0
            vectors = tf.where(found[..., None] > 0, same @ request["live_embeddings"], vectors)
            count = tf.maximum(count, found)
        return tf.reduce_sum(vectors, 1) / tf.maximum(tf.reduce_sum(count, 1, keepdims=True), 1.0) + 1e-3

    def embed_users(self, **request: Any) -> Any:
        return {"embedding": self._user(request)}

    def _scores(self, request: Any, user: Any) -> Any:
        scores = user @ tf.transpose(self.vectors)
        hidden = tf.concat([request["history_ids"], request["exclude_ids"]], 1)
        out = tf.reduce_any(hidden[:, :, None] == self.ids[None, None, :], 1)
        return tf.where(out | (self.ids == ""), -1e9, scores)

    def recommend(self, **request: Any) -> Any:
        return self._best(self._scores(request, self._user(request)), tf.broadcast_to(self.ids, [1, COUNT + 1]))

    def _best(self, scores: Any, ids: Any) -> Any:
        best, places = tf.math.top_k(scores, TOP)
        ids = tf.broadcast_to(ids, tf.shape(scores))
        names = tf.gather(ids, places, batch_dims=1)
        return {"ids": tf.where(best > -1e8, names, ""), "scores": tf.where(best > -1e8, best, 0.0)}

    def recommend_live(self, **request: Any) -> Any:
        user = self._user(request)
        scores = self._scores(request, user)
        replaced = tf.reduce_any(request["live_ids"][:, :, None] == self.ids[None, None, :], 1)
        scores = tf.where(replaced, -1e9, scores)
        live = tf.linalg.matvec(request["live_embeddings"], user)
        hidden = tf.concat([request["history_ids"], request["exclude_ids"]], 1)
        out = tf.reduce_any(hidden[:, :, None] == request["live_ids"][:, None, :], 1) | (request["live_ids"] == "")
        live = tf.where(out, -1e9, live)
        ids = tf.broadcast_to(self.ids, tf.shape(scores))
        return self._best(tf.concat([scores, live], 1), tf.concat([ids, request["live_ids"]], 1))

    def rank(self, **request: Any) -> Any:
        vectors = tf.gather(self.vectors, self.index.lookup(request["candidate_ids"]))
        return {"scores": tf.linalg.matvec(vectors, self._user(request))}


@pytest.fixture(scope="session")
def export_toy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """A version folder of the toy model, with `recommend_live` or without."""
    made: dict[bool, Path] = {}

    def export(live: bool) -> Path:
        if live not in made:
            toy, folder = Toy(live), tmp_path_factory.mktemp("toy") / "1"
            item = {
                name: tf.TensorSpec([None], tf.string, name)
                for name in ("item_id", "title", "body", "language", "category", "image")
            }
            request = {**_REQUEST, "exclude_ids": _ids("exclude_ids")}
            signatures = {
                "recommend": tf.function(toy.recommend).get_concrete_function(**request),
                "rank": tf.function(toy.rank).get_concrete_function(**_REQUEST, candidate_ids=_ids("candidate_ids")),
                "embed_users": tf.function(toy.embed_users).get_concrete_function(**_REQUEST),
                "embed_items": tf.function(toy.embed_items).get_concrete_function(**item, tags=_ids("tags")),
            }
            if live:
                signatures["recommend_live"] = tf.function(toy.recommend_live).get_concrete_function(**request, **_LIVE)
            signatures["serving_default"] = signatures["recommend"]
            tf.saved_model.save(toy, str(folder), signatures=signatures)
            made[live] = folder
        return made[live]

    return export


@pytest.fixture(scope="session")
def toy_server(export_toy: Callable[[bool], Path]) -> Iterator[ModelServer]:
    """A running model server with the toy as model `feed`, version 1."""
    with ModelServer(Options(model_name="feed", model_base_path=export_toy(True).parent)) as server:
        yield server


Require = Callable[[object, str], None]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@dataclass
class Service:
    """A database in a process of its own, that can go away and come back."""

    url: str
    command: list[str]
    user: str | None
    port: int
    answers: Callable[[], object]  # raises while it does not
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, user=self.user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(Exception):
                self.answers()
                return
            assert self.process.poll() is None, "the database ended"
            assert time.monotonic() < deadline, "the database did not start"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        # SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one.
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(120)
            self.process = None


@pytest.fixture(scope="session")
def postgres(require: Require) -> Iterator[Service]:
    """A running PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [
        Path(each).parent for each in [shutil.which("initdb")] if each
    ]
    require(found, "PostgreSQL is not installed")
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        folder.mkdir()
        if user:
            shutil.chown(name, user)
            shutil.chown(folder, user)
        subprocess.run(
            [found[-1] / "initdb", "-D", folder, "-U", "belfry", "-A", "trust", "-E", "UTF8", "--no-sync"],
            user=user,
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        port = _free_port()
        command = [str(found[-1] / "postgres"), "-D", str(folder), "-p", str(port), "-k", name, "-h", "127.0.0.1"]
        url = f"postgresql://belfry@127.0.0.1:{port}"
        service = Service(url, command, user, port, lambda: psycopg.connect(f"{url}/postgres").close())
        service.start()
        yield service
        service.stop(signal.SIGQUIT)


@pytest.fixture(scope="session")
def redis(require: Require) -> Iterator[Service]:
    """A running Redis."""
    found = shutil.which("redis-server")
    require(found, "Redis is not installed")
    port = _free_port()
    command = [str(found), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    at = ("127.0.0.1", port)
    service = Service(
        f"redis://127.0.0.1:{port}/0", command, None, port, lambda: socket.create_connection(at, 1).close()
    )
    service.start()
    yield service
    service.stop()


_numbers = itertools.count(1)


@pytest.fixture
def new_database(postgres: Service) -> Callable[[], str]:
    """The URL of an empty PostgreSQL database."""

    def create() -> str:
        name = f"test{os.getpid()}x{next(_numbers)}"
        with contextlib.closing(psycopg.connect(f"{postgres.url}/postgres", autocommit=True)) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"{postgres.url}/{name}"

    return create


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where an empty store is, of each kind."""
    if request.param == "sqlite":
        return tmp_path / "store"
    return str(request.getfixturevalue("new_database")())
