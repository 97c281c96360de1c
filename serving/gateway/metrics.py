"""What is counted, for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.monitoring.gauges import LastWindow

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0)


class Metrics:
    """One gateway's, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of: Any = {"registry": self.registry}
        self.requests = Counter("belfry_requests", "Requests answered.", ["route", "status"], **of)
        self.seconds = Histogram("belfry_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, **of)
        self.answers = Counter("belfry_recommendations", "Answers by what gave them.", ["by"], **of)
        self.cache = Counter("belfry_cache", "Look-ups in caches.", ["cache", "result"], **of)
        self.cache_errors = Counter("belfry_cache_errors", "Calls of Redis that failed; they count as misses.", **of)
        self.model_calls = Counter("belfry_model_calls", "Calls of the model.", ["signature", "result"], **of)
        self.model_seconds = Histogram("belfry_model_seconds", "Time of a call.", ["signature"], buckets=_SECONDS, **of)
        self.batch = Histogram("belfry_batch_rows", "Requests in a call.", buckets=(1, 2, 4, 8, 16, 32, 64), **of)
        self.events = Counter("belfry_events", "Events by what became of them.", ["result"], **of)
        self.slates_dropped = Counter("belfry_slates_dropped", "Slates that could not be recorded.", **of)
        self.under_way = Gauge("belfry_requests_under_way", "Requests under way.", **of)
        self.events_waiting = Gauge("belfry_events_waiting", "Events that wait for the disk.", **of)
        self.items = Gauge("belfry_items", "Items known.", **of)
        self.live = Gauge("belfry_live_items", "Items that the model's index does not have.", **of)
        self.version = Gauge("belfry_model_version", "Version of the model that is asked.", **of)
        self.breaker = Gauge("belfry_breaker_open", "1 while the model is not asked.", **of)
        self.last_window = LastWindow(self.registry)
        # Looking a child up by its labels costs more than counting.
        self._hits = {
            (cache, hit): self.cache.labels(cache, "hit" if hit else "miss")
            for cache in ("state", "vector", "answer", "stale")
            for hit in (True, False)
        }

    def looked_up(self, cache: str, hit: bool) -> None:
        self._hits[cache, hit].inc()

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
