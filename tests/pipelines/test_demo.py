"""`belfry demo` as a user runs it: one process, the real MiniLM, a real gateway and model server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    out = tmp_path_factory.mktemp("demo") / "out"
    # Somebody's own, who says --out .
    (out / "store").mkdir(parents=True)
    (out / "store" / "mine").touch()
    command = [Path(sys.executable).with_name("belfry"), "demo", "--out", out, "--keep-serving", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line == "}\n":
            break
    yield process, json.loads(text)
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_feed_is_new_to_the_user_and_in_their_language(demo: tuple[Any, dict[str, Any]]) -> None:
    result = demo[1]
    assert len(result["feed"]) == 10
    assert len(result["read"]) > 0
    assert not {item["item_id"] for item in result["feed"]} & {item["item_id"] for item in result["read"]}
    assert all(item["title"] for item in result["feed"])
    scores = [item["score"] for item in result["feed"]]
    assert scores == sorted(scores, reverse=True)
    in_language = [item["language"] == result["language"] for item in result["feed"]]
    assert sum(in_language) >= 8


def test_a_store_of_ones_own_is_left_alone(demo: tuple[Any, dict[str, Any]]) -> None:
    store = Path(demo[1]["store"])
    assert [path.name for path in (store.parent / "store").iterdir()] == ["mine"]


def test_the_model_is_above_popularity_and_newest_first(demo: tuple[Any, dict[str, Any]]) -> None:
    evaluation = demo[1]["evaluation"]
    for baseline in ("popularity", "newest first"):
        assert evaluation["slates"]["difference"][baseline]["auc"]["low"] > 0
        assert evaluation["catalogue"]["difference"][baseline]["recall@10"]["low"] > 0


def test_a_browser_gets_the_same_feed_until_it_is_stopped(demo: tuple[Any, dict[str, Any]]) -> None:
    process, result = demo
    with urllib.request.urlopen(f"{result['rest']}/metadata", timeout=10) as answer:
        signatures = json.loads(answer.read())["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) >= {"serving_default", "recommend", "rank", "embed_items", "embed_users"}
    with urllib.request.urlopen(result["console"], timeout=10) as answer:
        assert b"<title>" in answer.read()
    body = json.dumps({"user_id": result["user"], "k": 10}).encode()
    request = urllib.request.Request(
        f"{result['gateway']}/v1/recommendations", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        feed = json.loads(answer.read())
    assert feed["fallback"] is None
    # The model's first ten, but for what the gateway does of itself: no category takes more than half.
    same = {each["item_id"] for each in feed["items"]} & {each["item_id"] for each in result["feed"]}
    assert len(same) >= 8
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    for url in (result["rest"], result["gateway"]):
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=10)
