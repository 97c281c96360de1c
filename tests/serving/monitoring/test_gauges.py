"""What /metrics says of the last window."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from serving.events import Store
from serving.monitoring import Measure, Rule, Rules, evaluate_rules
from serving.monitoring.gauges import LastWindow
from serving.monitoring.records import Stored, write_measures
from tests.serving.monitoring.conftest import DAY, START


def test_the_last_window_and_the_rules(store: Store) -> None:
    registry = CollectorRegistry()
    gauges = LastWindow(registry)
    assert b"belfry_monitor_end_seconds 0.0" in generate_latest(registry)
    gauges.refresh(store)
    measures = [
        Measure("", "", "ctr", 0.25, 0.2, 0.3, 100),
        Measure("b", "", "ctr", 0.5, None, None, 50),
        Measure("", 'language="x"', "ctr", 0.125, None, None, 20),
        Measure("b", "language=en", "ctr", 1.0, None, None, 1),
    ]
    for start in (START, START + DAY):
        write_measures(store, start, start + DAY, measures)
    told = Rules(rules=(Rule(name="high", metric="ctr", above=0.1), Rule(name="low", metric="ctr", below=0.1)))
    evaluate_rules(store, told, Stored(START + DAY, START + 2 * DAY, measures), START)
    gauges.refresh(store)
    text = generate_latest(registry).decode()
    assert 'belfry_monitor{metric="ctr",slice="",variant=""} 0.25' in text
    assert 'belfry_monitor{metric="ctr",slice="",variant="b"} 0.5' in text
    assert 'slice="language=\\"x\\""' in text
    assert 'belfry_alert{rule="high"} 1.0' in text
    assert 'belfry_alert{rule="low"} 0.0' in text
    assert "belfry_monitor_end_seconds 1.7281728e+09" in text
    assert "belfry_monitor_left_out 1.0" in text


def test_series_are_bounded(local_store: Store) -> None:
    registry = CollectorRegistry()
    gauges = LastWindow(registry)
    many = [Measure("", f"s{number}", "ctr", 0.5, None, None, 1) for number in range(3_000)]
    write_measures(local_store, START, START + DAY, [*many, Measure("", "", "ctr", 0.5, None, None, 1)])
    gauges.refresh(local_store)
    text = generate_latest(registry).decode()
    assert text.count("\nbelfry_monitor{") == 2_000
    assert 'belfry_monitor{metric="ctr",slice="",variant=""} 0.5' in text
    assert "belfry_monitor_left_out 1001.0" in text
