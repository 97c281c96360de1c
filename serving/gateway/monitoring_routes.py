"""How it goes, by the API: this gateway now, the last minutes, and what monitors have stored."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from prometheus_client import Counter
from pydantic import BaseModel

from serving.gateway.answers import json_answer
from serving.gateway.gateway import Gateway
from serving.gateway.schemas import DIGITS, Word
from serving.monitoring.minutes import read_minutes
from serving.monitoring.records import alerts, last_window, read_measures, read_state
from serving.monitoring.window import SECOND

_MOST_TIME = 4_102_444_800 * SECOND
_ALERTS = 50


class MinuteFound(BaseModel):
    """A minute of all gateways' slates; see `serving.monitoring.minutes.Minute`."""

    start: int
    slates: int
    shown: int
    wanted: int
    fallbacks: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None


class Lookups(BaseModel):
    """Of a cache, since the start."""

    hits: int
    misses: int


class Live(BaseModel):
    """This gateway at `at`, and the last minutes of all gateways on the store. Times are microseconds since 1970.

    `complete_from` is since when all slates are in `minutes`; `answers` counts recommendations since the start, by what
    gave them.
    """

    at: int
    model: str
    version: int | None
    model_is_asked: bool
    items: int
    live_items: int
    events_waiting: int
    slates_dropped: int
    answers: dict[str, int]
    caches: dict[str, Lookups]
    minutes: list[MinuteFound]
    complete_from: int


class WindowValue(BaseModel):
    """A measure of a window that begins at `start`, with its 95 % interval where it has one."""

    start: int
    value: float
    low: float | None
    high: float | None
    count: int
    note: str


class Series(BaseModel):
    """One measure over the windows, the earliest first."""

    metric: str
    windows: list[WindowValue]


class Measures(BaseModel):
    """Measures of windows of `seconds`; null where no window is stored."""

    seconds: int | None
    series: list[Series]


class Alert(BaseModel):
    """A rule that was raised or cleared."""

    at: int
    rule: str
    state: str
    action: str
    reason: str


class Alerts(BaseModel):
    """The latest alerts, the latest first, and the rules that are raised."""

    raised: list[str]
    alerts: list[Alert]


def add_monitoring_routes(app: FastAPI, gateway: Gateway, errors: Any) -> None:
    """Add /v1/live, /v1/measures and /v1/alerts.

    Args:
        errors: By statuses, what the document says of refusals.
    """
    refused = errors(401, 403, 413, 415, 422, 429, 503)
    tags: Any = ["monitoring"]

    @app.get("/v1/live", response_model=Live, responses=refused, tags=tags)
    async def live(minutes: Annotated[int, Query(ge=1, le=120), DIGITS] = 30) -> Response:
        """This gateway now, and the last minutes."""
        now, rating = gateway.now(), gateway.settings.positive_rating
        found, complete = await gateway.in_thread(
            read_minutes, gateway.store, now, minutes=minutes, positive_rating=rating
        )
        model, metrics = gateway.models.default, gateway.metrics
        looked = _counts(metrics.cache)
        caches = {
            cache: {"hits": looked.get((cache, "hit"), 0), "misses": looked.get((cache, "miss"), 0)}
            for cache in sorted({cache for cache, _ in looked})
        }
        return json_answer(
            {
                "at": now,
                "model": gateway.settings.model,
                "version": model.version.number if model.version else None,
                "model_is_asked": not model.breaker.is_open,
                "items": len(gateway.catalogue),
                "live_items": len(model.live) if model.live is not None else 0,
                "events_waiting": gateway.events.waiting,
                "slates_dropped": sum(_counts(metrics.slates_dropped).values()),
                "answers": {by: count for (by,), count in _counts(metrics.answers).items()},
                "caches": caches,
                "minutes": [each._asdict() for each in found],
                "complete_from": complete,
            }
        )

    @app.get("/v1/measures", response_model=Measures, responses=refused, tags=tags)
    async def measures(
        metric: Annotated[list[Word], Query(min_length=1, max_length=20, description="Such as ctr.")],
        variant: Annotated[Word, Query(description="Empty for all.")] = "",
        slice: Annotated[Word, Query(description="Such as language=en; empty for all.")] = "",
        seconds: Annotated[
            int, Query(ge=0, le=2**31 - 1, description="The windows'; 0 for the last one's."), DIGITS
        ] = 0,
        since: Annotated[int, Query(ge=0, le=_MOST_TIME, description="Microseconds since 1970."), DIGITS] = 0,
    ) -> Response:
        """What monitors have stored of windows; see `belfry monitor`."""
        if not seconds:
            last = await gateway.in_thread(last_window, gateway.store)
            if last is None:
                return json_answer({"seconds": None, "series": []})
            seconds = (last.end - last.start) // SECOND
        series = []
        for each in dict.fromkeys(metric):
            found = await gateway.in_thread(
                read_measures, gateway.store, each, seconds=seconds, since=since, variant=variant, slice=slice
            )
            names = ("value", "low", "high", "count", "note")
            windows = [{"start": start} | {name: getattr(one, name) for name in names} for start, one in found]
            series.append({"metric": each, "windows": windows})
        return json_answer({"seconds": seconds, "series": series})

    @app.get("/v1/alerts", response_model=Alerts, responses=refused, tags=tags)
    async def show_alerts(
        since: Annotated[int, Query(ge=0, le=_MOST_TIME, description="Microseconds since 1970."), DIGITS] = 0,
    ) -> Response:
        """What rules have fired: at most the latest 50."""
        fired = await gateway.in_thread(alerts, gateway.store, since)
        last = await gateway.in_thread(last_window, gateway.store)
        raised: list[str] = []
        if last is not None:
            state = await gateway.in_thread(read_state, gateway.store, (last.end - last.start) // SECOND)
            raised = sorted(name for name, rule in state.rules.items() if rule.raised_at is not None)
        shown = [{name: getattr(one, name) for name in Alert.model_fields} for one in fired[: -_ALERTS - 1 : -1]]
        return json_answer({"raised": raised, "alerts": shown})


def _counts(counter: Counter) -> dict[tuple[str, ...], int]:
    """By its labels' values."""
    return {
        tuple(sample.labels.values()): int(sample.value)
        for family in counter.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
