"""The last window for Prometheus: what a gateway's /metrics says beside what the gateway itself counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.events import Store
from serving.monitoring.measures import Measure
from serving.monitoring.records import last_window, read_state
from serving.monitoring.window import SECOND

_MOST_SERIES = 2_000


class _Shown(NamedTuple):
    measures: list[Measure]
    end: int
    rules: dict[str, bool]


class LastWindow(Collector):
    """Gauges of the last window that a monitor stored, and of every rule whether it is raised.

    Nothing is computed here: `refresh` reads the store, and a scrape what was read last. Measures of a slice of one
    variant stay in the store, and so does what is beyond some thousands of series; `belfry_monitor_left_out` counts it.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._shown = _Shown([], 0, {})
        registry.register(self)

    def refresh(self, store: Store) -> None:
        """Read the last window.

        Raises:
            StoreError: It cannot be read; what was read before stays.
        """
        last = last_window(store)
        if last is None:
            return
        state = read_state(store, (last.end - last.start) // SECOND)
        rules = {name: each.raised_at is not None for name, each in state.rules.items()}
        # Replaced as a whole: a scrape comes from another thread.
        self._shown = _Shown(last.measures, last.end, rules)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        shown = self._shown
        offered = [each for each in shown.measures if not (each.variant and each.slice)]
        kept = sorted(offered, key=lambda each: (bool(each.slice), bool(each.variant)))[:_MOST_SERIES]
        labels = ["metric", "variant", "slice"]
        values = GaugeMetricFamily("belfry_monitor", "Measures of the last monitored window.", labels=labels)
        for each in kept:
            values.add_metric([each.metric, each.variant, each.slice], each.value)
        yield values
        raised = GaugeMetricFamily("belfry_alert", "1 while a monitoring rule is raised.", labels=["rule"])
        for name, is_raised in shown.rules.items():
            raised.add_metric([name], float(is_raised))
        yield raised
        end = shown.end / 1e6
        yield GaugeMetricFamily("belfry_monitor_end_seconds", "End of that window, in seconds since 1970.", value=end)
        left = len(shown.measures) - len(kept)
        yield GaugeMetricFamily("belfry_monitor_left_out", "Measures of it that are in the store alone.", value=left)
