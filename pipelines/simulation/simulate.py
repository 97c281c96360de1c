"""Days of a newsroom through a real gateway, and all that keeps a model good: from an empty store to a report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.artefacts import write_json
from pipelines.data import schema
from pipelines.data.dataset import Dataset
from pipelines.data.sources.newsroom.events import EventTables
from pipelines.data.sources.newsroom.sizes import DAY
from pipelines.data.sources.store import import_store
from pipelines.errors import BadInput
from pipelines.progress import say, track
from pipelines.recipe import Recipe
from pipelines.registry import CONFIG, Registry
from pipelines.result import Result
from pipelines.run import Run
from pipelines.saved_model import export
from pipelines.served import configured_server
from pipelines.simulation.operator import RULES, Operator
from pipelines.simulation.page import simulation_page
from pipelines.simulation.results import summary
from pipelines.simulation.traffic import SimulatedClock, Traffic, Visits
from pipelines.simulation.world import World
from pipelines.store_filling import append_events, as_rows
from pipelines.training import train
from serving.events import Store
from serving.experiments.records import list_experiments
from serving.gateway.server import GatewayServer
from serving.gateway.settings import Settings
from serving.monitoring import Rules

MODEL = "feed"
RESULTS, REPORT = "simulation.json", "simulation.html"
_READY_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """What is simulated.

    Args:
        days: Of traffic; `warm_up` days of a publisher's own policy come before.
        size: Of the world: tiny, small or medium.
        drift: How far the readers' taste moves, in log-odds; 0 for not at all.
        holdout: Share of the readers for whom the loop is compared with the first model, half of them each.
        canary: Share of the others that a candidate is tried on.
        trial_days: An experiment's longest time.
        explore: Share of the answers in which one place is left to chance.
        spoilt_on: The day on which a version that learned nothing is put past the gate, or the first after it on which
            no other is on trial; None for never.
        seed: From 0.

    Example:
        >>> from pipelines import Plan
        >>> Plan(days=5, size="tiny", spoilt_on=None).drift
        1.0
    """

    days: int = 30
    warm_up: int = 7
    size: str = "small"
    drift: float = 1.0
    holdout: float = 0.6
    canary: float = 0.5
    trial_days: float = 3.0
    explore: float = 0.1
    spoilt_on: int | None = 20
    seed: int = 17


def simulate(out: Path | str, recipe: Recipe | None = None, plan: Plan | None = None, rules: Rules = RULES) -> Result:
    """Play the days, and write `simulation.json` and `simulation.html` into `out`; returns what the first holds.

    A gateway and a model server run as they do for real users; only the clock is the world's. Each night the operator
    measures the day, judges `rules`, ends experiments, and retrains where a rule asks for it.

    Args:
        out: A new folder, for the store, the models and the report.
        recipe: Of the first model; by default the shipped `simulate`.
        plan: Days, size, drift and so on; by default a month.
        rules: When to retrain.

    Raises:
        BadInput: `out` holds something, or the plan is out of range.

    Example:
        >>> from pipelines import Plan, simulate
        >>> plan = Plan(days=5, size="tiny", spoilt_on=None)
        >>> result = simulate("simulation", plan=plan)  # minutes  # doctest: +SKIP
        >>> print(result)  # doctest: +SKIP
    """
    out, plan = Path(out), plan or Plan()
    recipe = recipe or Recipe.shipped("simulate")
    if out.exists() and any(out.iterdir()):
        raise BadInput(f"{out} is not empty: give a new folder.")
    if plan.spoilt_on is not None and plan.spoilt_on >= plan.days:
        raise BadInput(f"there is no day {plan.spoilt_on} to try a bad version on: days are from 0 to {plan.days - 1}.")
    world = World.of(plan.days, plan.warm_up, plan.size, plan.drift, plan.seed)
    out.mkdir(parents=True, exist_ok=True)
    begun, clock = time.monotonic(), SimulatedClock(world.live_from)
    with Store(out / "store") as store:
        _first_version(world, store, out, recipe, clock)
        operator = Operator(
            store,
            str(out / "store"),
            out / "models",
            MODEL,
            out / "work",
            holdout=plan.holdout,
            canary=plan.canary,
            trial_hours=24 * plan.trial_days,
            rules=rules,
            seed=plan.seed,
        )
        visits, nights, spoilt = [], [], None
        with _gateway(out, clock, plan.explore) as gateway:
            operator.begin(world.live_from)
            traffic = Traffic(world, gateway.url, clock)
            for day in track(range(plan.days), "days", plan.days):
                begin = world.live_from + day * DAY
                wanted = plan.spoilt_on is not None and spoilt is None and day >= plan.spoilt_on
                if wanted and not operator.is_trying:
                    spoilt = operator.try_spoilt(begin, out / "work")
                    say(f"day {day}: version {spoilt} learned nothing, and is on trial")
                _follow(gateway, store, operator.registry)
                played = _day(world, traffic, day)
                clock.seconds = begin + DAY
                _written(gateway)
                visits.append(played)
                rate = played.clicks.sum() / max(1, played.shown.sum())
                say(f"day {day}: {len(played.user):,} visits, {rate:.2%} of what was shown was clicked")
                nights.append(operator.after(day, begin))
        if plan.spoilt_on is not None and spoilt is None:
            say(f"no bad version was tried: from day {plan.spoilt_on} on there was always another on trial")
        result = {
            "plan": asdict(plan),
            "live_from": datetime.fromtimestamp(world.live_from, UTC).isoformat(),
            "seconds": round(time.monotonic() - begun, 1),
            **summary(Visits.join(visits), nights, world.live_from, plan.days, spoilt),
            "history": [each.model_dump() for each in operator.registry.model(MODEL).history],
        }
    write_json(out / RESULTS, result)
    (out / REPORT).write_text(simulation_page(result), encoding="utf-8")
    return Result(result, partial(_lines, report=out / REPORT))


def _lines(result: dict[str, Any], report: Path) -> list[str]:
    """What came of it, as plain text."""
    lead, ctr = result["lead"], result["ctr"]
    lines = [
        f"{result['visits']:,} visits in {result['seconds']:.0f} s; {result['retrained']} retrainings, "
        f"{result['promoted']} promotions, {result['fallbacks']} fallbacks",
        f"clicks by shown items: loop {ctr['loop']:.4f}, first model {ctr['frozen']:.4f}: {lead['relative']:+.1%}, "
        f"{lead['value']:+.4f} [{lead['low']:+.4f}, {lead['high']:+.4f}]",
    ]
    if result["spoilt"]:
        spoilt = result["spoilt"]
        lines.append(
            f"version {spoilt['version']}, which learned nothing: at most {spoilt['largest_share_of_a_day']:.1%} of a "
            f"day's visits, out after {spoilt['looks']} look(s) ({spoilt['verdict']})"
        )
    return [*lines, f"report: {report}"]


def _first_version(world: World, store: Store, out: Path, recipe: Recipe, clock: SimulatedClock) -> None:
    """From what the publisher's own policy showed to a champion."""
    from serving.events.items import put_items, remove_item

    say("a publisher's own policy fills the log")
    first = int(world.newsroom.articles.published_at.min())
    articles = [_row(each) for each in world.published(first, world.live_from)]
    put_items(store, articles, first * 1_000_000)
    for item_id in world.removed(first, world.live_from):
        remove_item(store, item_id, clock())
    tables = EventTables(world.newsroom)
    for batch in tables.batches(world.before()):
        for some in batch.events.to_batches():
            append_events(store, as_rows(some, schema.EVENTS))
    say("training the first version")
    now = datetime.fromtimestamp(world.live_from, UTC)
    import_store(out / "store", out / "work" / "first-data", now=now)
    data = Dataset.open(out / "work" / "first-data")
    train(recipe, data, out / "work" / "first-run")
    version = int(export(Run.open(out / "work" / "first-run"), out / "models" / MODEL, data).name)
    registry = Registry(out / "models")
    registry.add(MODEL, version, "trained on what the publisher's own policy showed")
    registry.promote(MODEL, version, "the first")


def _row(article: dict[str, Any]) -> dict[str, Any]:
    return article | {"published_at": article["published_at"] * 1_000_000}


@contextlib.contextmanager
def _gateway(out: Path, clock: SimulatedClock, explore: float) -> Iterator[GatewayServer]:
    with configured_server(out / "models" / CONFIG, MODEL, out / "model-server.log") as served:
        settings = Settings(
            store_url=str(out / "store"),
            model=MODEL,
            model_server=f"grpc://127.0.0.1:{served.grpc_port}",
            label="champion",
            port=0,
            deadline_ms=5_000,
            live_items=1_024,
            answer_seconds=0,
            explore=explore,
            sync_seconds=0.1,
            log_requests=False,
        )
        with GatewayServer(settings, clock=clock) as gateway:
            yield gateway


def _follow(gateway: GatewayServer, store: Store, registry: Registry) -> None:
    """Wait until the gateway knows the experiments that run, and asks the versions that the registry has for them."""
    running = {each.experiment.name for each in list_experiments(store, running=True)}
    served = registry.model(MODEL).served
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        known, models = gateway.gateway.assignments, gateway.gateway.models
        asked = {label: models.of(label) for label in {"champion", *known.labels} & served.keys()}
        # For a label that is not there yet the default stands in, whose version may be the same.
        settled = all(
            model.label == label and model.version is not None and model.version.number == served[label]
            for label, model in asked.items()
        )
        if settled and {each.name for each in known.running} == running:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"the gateway does not follow the registry: it should ask {served}")
        time.sleep(0.1)


def _day(world: World, traffic: Traffic, day: int) -> Visits:
    played = []
    for hour in world.hours(day):
        traffic.publish(hour.begin, hour.begin + 3_600)
        if len(hour.user):
            played.append(traffic.play(hour))
    return Visits.join(played)


def _written(gateway: GatewayServer) -> None:
    """Wait until the day's slates are in the store."""
    gateway.gateway.flush_slates(_READY_SECONDS)
