"""`belfry serve` as a process: it starts, is killed, and what it acknowledged is there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from pipelines.registry import Registry
from serving.events import Store
from serving.events.keys import create_key
from serving.events.tables import EVENTS
from serving.model_server import ModelServer

MAIN = "from pipelines.cli import main; main()"
Serve = Callable[..., contextlib.AbstractContextManager[tuple[subprocess.Popen[str], str]]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Run `belfry serve` with arguments until the block ends; its process and URL."""

    @contextlib.contextmanager
    def run(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", MAIN, "serve", "--port", "0", "--json", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | environment,
            )
        assert process.stdout is not None
        try:
            text = ""
            while not text.rstrip().endswith("}"):
                line = process.stdout.readline()
                assert line, (tmp_path / "log").read_text()[-3000:]
                text += line
            yield process, json.loads(text)["url"]
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    return run


def refused(*arguments: str) -> str:
    """What `belfry serve` says where it does not start."""
    command = [sys.executable, "-c", MAIN, "serve", "--port", "0", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 2, found.stderr
    return found.stderr.strip().splitlines()[-1]


def test_one_process_serves_the_model_and_the_feed(
    serve: Serve, export_toy: Callable[[bool], Path], tmp_path: Path, eventually: Callable[..., None]
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "feed").symlink_to(export_toy(True).parent)
    ports = ("--rest-port", "0", "--grpc-port", "0")
    with serve("--models", str(models), *ports, BELFRY_STORE_URL=str(tmp_path / "store")) as (process, url):
        eventually(lambda: httpx.get(f"{url}/readyz").json()["model"]["version"] == 1, 60)
        assert httpx.put(f"{url}/v1/items/a", json={"title": "t", "category": "sport"}).json()["live"]
        found = httpx.post(f"{url}/v1/recommendations", json={"user_id": "u1", "k": 3}).json()
        assert found["fallback"] is None
        assert len(found["items"]) == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines if line.get("route") == "/v1/recommendations"] == [200]
    with Store(tmp_path / "store") as store, store.reading() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM slates")).scalar() == 1


def test_the_registry_says_which_version_answers(
    serve: Serve, export_toy: Callable[[bool], Path], tmp_path: Path, eventually: Callable[..., None]
) -> None:
    models = tmp_path / "models"
    for version in (1, 2):
        shutil.copytree(export_toy(True), models / "feed" / str(version))
    registry = Registry(models)
    registry.add("feed", 1, "first")
    arguments = ("--models", str(models), "--store", str(tmp_path / "store"))
    assert "no champion of feed" in refused(*arguments)
    registry.try_out("feed", 1, "a canary alone")
    assert "no champion of feed" in refused(*arguments)
    registry.promote("feed", 1, "first")

    def answering() -> int:
        return int(httpx.post(f"{url}/v1/recommendations", json={"user_id": "u1"}).json()["model"]["version"] or 0)

    with serve(*arguments, "--rest-port", "-1", "--grpc-port", "-1") as (_, url):
        eventually(lambda: answering() == 1, 60)
        assert httpx.put(f"{url}/v1/items/a", json={"title": "t", "category": "sport"}).json()["live"]
        registry.add("feed", 2, "second")
        registry.promote("feed", 2, "better")
        eventually(lambda: answering() == 2)
        # As the console does it.
        assert httpx.get(url).headers["content-type"].startswith("text/html")
        assert httpx.post(f"{url}/v1/models/rollback", json={"why": "complaints"}).json()["before"] == 2
        eventually(lambda: answering() == 1)
        ids = httpx.post(f"{url}/v1/recommendations", json={"user_id": "u1", "k": 40}).json()["items"]
        assert "a" in [each["item_id"] for each in ids], "what was live before is live again"


def test_a_model_server_elsewhere_needs_no_tensorflow(toy_server: ModelServer, tmp_path: Path) -> None:
    code = f"""
import sys, time, httpx
from serving.gateway.server import GatewayServer
from serving.gateway.settings import Settings
settings = Settings(store_url={str(tmp_path)!r}, model="feed", model_server="grpc://{toy_server.grpc_target}", port=0)
with GatewayServer(settings) as server:
    while httpx.get(server.url + "/readyz").json()["model"]["version"] is None:
        time.sleep(0.05)
    assert httpx.post(server.url + "/v1/recommendations", json={{"user_id": "u"}}).json()["items"]
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_what_was_acknowledged_outlives_kill_9(serve: Serve, tmp_path: Path) -> None:
    store, elsewhere = tmp_path / "store", ("--model-server", "http://127.0.0.1:1", "--model", "feed")
    acknowledged: set[str] = set()
    sent: set[str] = set()

    def send(url: str, name: str) -> None:
        number = 0
        with httpx.Client(base_url=url, timeout=30) as client, contextlib.suppress(httpx.HTTPError):
            while True:
                batch = [
                    {"event_id": f"{name}-{number + place}", "user_id": "u", "item_id": "i", "kind": "click"}
                    for place in range(3)
                ]
                number += 3
                ids = {event["event_id"] for event in batch}
                sent.update(ids)
                if client.post("/v1/events", json={"events": batch}).status_code == 202:
                    acknowledged.update(ids)

    for kill in range(3):
        with serve("--store", str(store), *elsewhere) as (process, url):
            senders = [threading.Thread(target=send, args=(url, f"k{kill}s{place}")) for place in range(4)]
            for sender in senders:
                sender.start()
            before = len(acknowledged)
            deadline = time.monotonic() + 30
            while len(acknowledged) < before + 60 and time.monotonic() < deadline:
                time.sleep(0.005)
            process.kill()
            process.wait()
            for sender in senders:
                sender.join()
    with Store(store) as opened, opened.reading() as connection:
        there = list(connection.execute(sa.select(EVENTS.c.event_id)).scalars())
    assert len(there) == len(set(there))
    assert len(acknowledged) >= 180
    assert acknowledged <= set(there) <= sent
    # A batch is there as a whole or not at all.
    assert all(f"{each.rpartition('-')[0]}-{int(each.rpartition('-')[2]) // 3 * 3}" in there for each in there)


def test_what_cannot_start_says_why(tmp_path: Path, export_toy: Callable[[bool], Path]) -> None:
    store = ("--store", str(tmp_path / "store"))
    assert "give --models" in refused(*store)
    assert "name the model" in refused(*store, "--model-server", "http://127.0.0.1:1")
    assert "has no model" in refused(*store, "--models", str(tmp_path))
    away = ("--model-server", "http://127.0.0.1:1", "--model", "feed")
    assert "belfry keys create" in refused(*store, *away, "--bind", "0.0.0.0")
    assert "label: " in refused(*store, *away, "--label", "the champion")
    assert "grpc://host:port" in refused(*store, "--model-server", "127.0.0.1:1", "--model", "feed")
    assert "cannot be used" in refused("--store", "postgresql://x:secret@127.0.0.1:1/y", *away)
    assert "secret" not in refused("--store", "postgresql://x:secret@127.0.0.1:1/y", *away)


def test_keys_by_the_command_line(tmp_path: Path) -> None:
    def belfry(*arguments: str) -> Any:
        command = [sys.executable, "-c", MAIN, "keys", *arguments, "--store", str(tmp_path), "--json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)

    made = belfry("create", "--name", "app", "--scope", "recommend", "--scope", "events")
    assert made["scopes"] == ["events", "recommend"]
    assert belfry("revoke", made["key_id"])["revoked"] is True
    (listed,) = belfry("list")
    assert listed["revoked_at"]
    assert made["key"] not in json.dumps(listed)
    with Store(tmp_path) as store:
        create_key(store, "other", ["events"])
    assert len(belfry("list")) == 2
