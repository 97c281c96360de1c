"""The command that watches traffic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.events import StoreOption
from pipelines.cli.options import Json, show
from pipelines.errors import BadInput

if TYPE_CHECKING:
    from pipelines.monitoring import MonitoredWindow
    from serving.monitoring.measures import Measure

# In the order of a table; what is no share has its own unit in its name.
_SHARES = ("ctr", "precision_at_k", "clicked_slates", "coverage", "new_share", "fallback_rate", "ctr_change")
_OTHERS = ("dwell_seconds", "novelty", "latency_p50_ms", "latency_p99_ms", "model_age_hours", "new_events")


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command()(monitor)


def monitor(
    store: StoreOption,
    models: Annotated[
        Path | None, typer.Option(help="The folder that holds NAME/VERSION: to compare traffic with the training data.")
    ] = None,
    model: Annotated[str | None, typer.Option(envvar="BELFRY_MODEL", help="Its name.")] = None,
    model_server: Annotated[
        str | None,
        typer.Option(
            "--model-server",
            envvar="BELFRY_MODEL_SERVER",
            metavar="URL",
            help="grpc://host:port or http://host:port: to compare users' embeddings.",
        ),
    ] = None,
    hours: Annotated[float, typer.Option(min=0.1, max=24 * 31, help="The length of a window.")] = 24.0,
    rules: Annotated[Path | None, typer.Option(help="YAML or JSON; by default the shipped rules.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on with every window that ends, until Ctrl-C.")] = False,
    retrain_work: Annotated[
        Path | None,
        typer.Option("--retrain-work", metavar="DIR", help="Run `belfry retrain --work DIR` where a rule asks for it."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="For `belfry retrain`.")] = None,
    positive_rating: Annotated[
        float | None,
        typer.Option("--positive-rating", envvar="BELFRY_POSITIVE_RATING", help="Ratings below it are not wanted."),
    ] = None,
    slices: Annotated[bool, typer.Option("--slices", help="Print the slices too.")] = False,
    as_json: Json = False,
) -> None:
    """Measure the windows of traffic that are over and not yet measured, find drift, and judge both by rules.

    Where there is none, the last window is shown as it is stored. With --json every window is one object on a line.
    """
    import time

    from pipelines.monitoring import RetrainCommand, Watched, stored
    from pipelines.monitoring import monitor as run_once
    from pipelines.monitoring import watch as run_on
    from pipelines.stopping import stop_on_signals

    retraining = None
    if retrain_work is not None:
        if models is None or model is None:
            raise BadInput("--retrain-work needs --models and --model: which model is retrained.")
        retraining = RetrainCommand(store, models, model, retrain_work, recipe)
    watched = Watched(store, models, model, model_server, hours, rules, positive_rating, retraining)
    with stop_on_signals() as stop:
        looks = (run_on if watch else run_once)(watched, stop, clock=lambda: time.time_ns() // 1000)
        found = False
        for look in looks:
            found = True
            _show(look, slices, as_json)
        last = None if found or watch else stored(watched)
        if last is not None:
            _show(last, slices, as_json)
        elif not found and not watch and not as_json:
            print("no window of traffic is over yet: the first full one is measured an hour after its end", flush=True)


def _show(look: MonitoredWindow, slices: bool, as_json: bool) -> None:
    if as_json:
        import json

        # A line each: whoever watches reads them one by one.
        print(json.dumps(_as_dict(look), ensure_ascii=False, allow_nan=False), flush=True)
    else:
        show({}, _lines(look, slices), as_json=False)


def _as_dict(look: MonitoredWindow) -> dict[str, Any]:
    import dataclasses

    return {
        "start": _iso(look.start),
        "end": _iso(look.end),
        "measures": [dataclasses.asdict(each) for each in look.measures],
        "skipped": look.skipped,
        "fired": [each._asdict() | {"at": _iso(each.at)} for each in look.fired],
        "raised": look.raised,
        "retrained": look.retrained,
    }


def _lines(look: MonitoredWindow, slices: bool) -> Iterator[str]:
    yield f"{_iso(look.start)} to {_iso(look.end)}"
    for (variant, slice_), found in _grouped(look.measures, slices):
        name = " ".join(each for each in (variant and f"variant {variant}", slice_) if each) or "all"
        slates, users = (found[each].value if each in found else 0 for each in ("slates", "users"))
        yield f"  {name}: {slates:,.0f} slates, {users:,.0f} users"
        for metric in (*_SHARES, *_OTHERS):
            if metric in found:
                yield f"    {metric:<16}{_told(found[metric])}"
    compared = [each for each in look.measures if each.metric.startswith("drift.")]
    drifted = [each for each in compared if each.value]
    yield f"  drift: {len(drifted)} of {len(compared)} comparisons"
    yield from (f"    {each.note}" for each in drifted)
    yield from (f"  {each}" for each in look.skipped)
    yield from (f"  {each.state}: {each.rule} ({each.action}): {each.reason}" for each in look.fired)
    yield f"  raised now: {', '.join(look.raised) or 'nothing'}"
    if look.retrained is not None:
        yield f"  retraining: {look.retrained}"


def _grouped(measures: Iterable[Measure], slices: bool) -> Iterator[tuple[tuple[str, str], dict[str, Measure]]]:
    groups: dict[tuple[str, str], dict[str, Measure]] = {}
    for each in measures:
        if not each.slice.startswith("reference=") and (slices or not each.slice):
            groups.setdefault((each.variant, each.slice), {})[each.metric] = each
    yield from sorted(groups.items(), key=lambda item: (bool(item[0][1]), *item[0]))


def _told(measure: Measure) -> str:
    share = measure.metric in _SHARES

    def number(value: float) -> str:
        return f"{value:.2%}" if share else f"{value:,.2f}"

    text = f"{number(measure.value):>12}"
    if measure.low is not None and measure.high is not None:
        text += f"  ({number(measure.low)} to {number(measure.high)})"
    return f"{text}  of {measure.count:,}"


def _iso(at: int) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(at / 1e6, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
