"""Counts and latencies of requests, as TensorFlow Serving names them, in Prometheus' text format.

Counting is our own, because it runs for every request: prometheus-client looks through all buckets of a histogram in
Python. It writes the text.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric

from serving.model_server.errors import Code
from serving.model_server.text_config import read_text_config

DEFAULT_PATH = "/monitoring/prometheus/metrics"
BUCKETS = tuple(10 * 1.8**power for power in range(33))  # upper bounds in microseconds, up to 25 minutes
_PREFIX = ":tensorflow:serving:"


@dataclass
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0  # microseconds


class Monitor:
    """What happened since the server started. Safe to use from any thread."""

    def __init__(self, path: str = DEFAULT_PATH) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str], int] = {}
        self._latency: dict[tuple[str, ...], _Histogram] = {}
        self._runtime: dict[tuple[str, ...], _Histogram] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def request(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
        """A request has ended.

        Args:
            model: Its name; a name that no model has must not come here, for it would be listed forever.
            api: Predict, Classify, Regress or MultiInference.
            entrypoint: REST or GRPC.
        """
        outcome, key = (model, code.name), (model, api, entrypoint)
        with self._lock:
            self._requests[outcome] = self._requests.get(outcome, 0) + 1
            _observe(self._latency, key, seconds)

    def run(self, model: str, api: str, seconds: float) -> None:
        """TensorFlow has computed something for a request."""
        with self._lock:
            _observe(self._runtime, (model, api, "TF1"), seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        text = generate_latest(self._registry)
        # prometheus-client announces a counter by a name that ends in `_total`; TensorFlow Serving's does not.
        name = f"{_PREFIX}request_count".encode()
        return text.replace(b"# HELP %b_total " % name, b"# HELP %b " % name).replace(
            b"# TYPE %b_total " % name, b"# TYPE %b " % name
        )

    def collect(self) -> Iterator[Metric]:
        """The metrics, for prometheus-client."""
        with self._lock:
            requests = dict(self._requests)
            latency = {key: (list(one.counts), one.total) for key, one in self._latency.items()}
            runtime = {key: (list(one.counts), one.total) for key, one in self._runtime.items()}
        count = Metric(f"{_PREFIX}request_count", "The total number of requests.", "counter")
        for (model, status), number in requests.items():
            count.add_sample(count.name, {"model_name": model, "status": status}, number)
        yield count
        for name, about, last, cells in (
            ("request_latency", "TensorFlow Serving request", "entrypoint", latency),
            ("runtime_latency", "TensorFlow runtime", "runtime", runtime),
        ):
            text = f"Distribution of wall time (in microseconds) for {about}."
            family = HistogramMetricFamily(_PREFIX + name, text, labels=["model_name", "API", last])
            for key, (counts, total) in cells.items():
                family.add_metric(key, _cumulative(counts), total)
            yield family


def read_monitoring_config(path: Path) -> Monitor | None:
    """The monitor that a MonitoringConfig asks for; None if it is not enabled.

    Raises:
        ServingError: INVALID_ARGUMENT, see `read_text_config`.
    """
    prometheus = read_text_config(path, "MonitoringConfig").prometheus_config
    if not prometheus.enable:
        return None
    return Monitor("/" + prometheus.path.lstrip("/") if prometheus.path else DEFAULT_PATH)


def _observe(cells: dict[tuple[str, ...], _Histogram], key: tuple[str, ...], seconds: float) -> None:
    cell = cells.get(key)
    if cell is None:
        cell = cells[key] = _Histogram()
    microseconds = seconds * 1e6
    cell.counts[bisect_left(BUCKETS, microseconds)] += 1
    cell.total += microseconds


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:.6g}" for bound in BUCKETS), "+Inf"]
    total, pairs = 0, []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        pairs.append((bound, float(total)))
    return pairs
