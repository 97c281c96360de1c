"""From requests to what /metrics says of them: a real gateway, a real model, and a monitor beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.events import Store
from serving.model_server import ModelServer
from serving.monitoring import Embedder, Rule, Rules, evaluate_rules, observe

HOUR = 3_600 * 10**6


def test_traffic_is_measured_and_exported(
    run: Callable[..., Any], where: Path | str, toy_server: ModelServer, eventually: Callable[..., None]
) -> None:
    served = run(trend_seconds=0.1, variant="treatment")
    began = time.time_ns() // 1000
    clicks = 0
    for number in range(120):
        user = f"u{number}"
        feed = served.feed(user, k=5, context={"language": ["en", "de"][number % 2], "device": "mobile"})
        if number % 3 == 0:
            more = {"request_id": feed["request_id"], "dwell_seconds": 12.0}
            served.click(user, feed["items"][0]["item_id"], **more)
            clicks += 1
    end = time.time_ns() // 1000 + 1
    with Store(where) as store, Embedder(toy_server, "feed") as embed:
        # Slates are written off the requests' path.
        eventually(lambda: observe(store, began, end).value("slates") == 120)
        seen = observe(store, began, end, embed=embed, k=1)
        told = Rules(rules=(Rule(name="busy", metric="slates", above=100),))
        (fired,) = evaluate_rules(store, told, seen, end)
    assert fired.rule == "busy"
    assert seen.version == 1
    assert seen.value("ctr") == pytest.approx(clicks / 600)
    assert seen.value("precision_at_k", variant="treatment") == pytest.approx(1 / 3)
    assert seen.value("dwell_seconds") == 12.0
    assert seen.value("slates", slice="language=de") == 60
    assert seen.value("fallback_rate") == 0
    assert not any("Embeddings are not compared" in each for each in seen.skipped)
    name = 'belfry_monitor{metric="ctr",slice="",variant="treatment"}'
    eventually(lambda: served.metric(name) == pytest.approx(clicks / 600))
    eventually(lambda: served.metric('belfry_alert{rule="busy"}') == 1)
    assert served.metric("belfry_monitor_end_seconds") == pytest.approx(end / 1e6)
