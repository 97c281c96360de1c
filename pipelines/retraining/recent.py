"""The dataset of a retraining: fresh events, a replay of older ones, and what histories need."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _
from pydantic import BaseModel, ConfigDict

from pipelines.data import schema
from pipelines.data.dataset import Dataset, new_dataset, write_info
from pipelines.data.draw import drawn_places
from pipelines.data.engine import DuckDB, open_duckdb
from pipelines.data.importing import write_table
from pipelines.errors import BadInput
from pipelines.recipe import Moments, Recipe

_DAY_SECONDS = 86_400
FRESH, REPLAYED, HISTORY = "fresh", "replayed", "older, for histories and counts alone"
LATER = "later than now"
NO_USER = "older, of a user who is neither active now nor replayed"
NO_HISTORY = "older, not replayed, and of no use to a history"
_IS_SHOWN = (_.kind == "impression") & _.request_id.notnull()


class Recent(BaseModel):
    """What a retraining is trained and judged on.

    Attributes:
        moments: Where its split cuts.
        kept, left_out: Rows of the events table, by why.
        examples: Slates, or positives where there are none: `fresh`, `replayed`, and in the newest `window`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    moments: Moments
    kept: dict[str, int]
    left_out: dict[str, int]
    examples: dict[str, int]

    def lines(self) -> list[str]:
        """For a reader."""
        kept = ", ".join(f"{rows:,} {what}" for what, rows in self.kept.items())
        left_out = ", ".join(f"{rows:,} {what}" for what, rows in self.left_out.items())
        examples = ", ".join(f"{count:,} {what}" for what, count in self.examples.items())
        return [f"events: {kept}" + (f"; left out: {left_out}" if left_out else ""), f"examples: {examples}"]


def write_recent(
    dataset: Dataset,
    out: Path,
    *,
    recipe: Recipe,
    now: datetime,
    trained_until: datetime | None,
    whole_slates: bool = False,
) -> Recent:
    """Write the part of `dataset` that a retraining needs, and say where it is split.

    An example is a slate with what became of it, or a positive where the dataset has no slates. Those of the last
    `retraining.days` before `now` are fresh. Of the older ones, those of whole users are replayed: users in the order
    of a hash of their id, as long as their examples together are at most `retraining.replay` times the fresh ones. Of
    users who have fresh events and are not replayed, older positives are kept as history, so that the behaviour tower
    sees what it will see when serving; their older slates are not, unless click rates are counted. All items are kept.
    Users of neither kind are left out whole.

    The newest window, on which the champion and its successor are judged, is the last share `retraining.window` of
    the fresh examples, as far as they are later than what the champion was trained on.

    Args:
        out: The dataset folder to make, or to replace if it is a dataset.
        now: What came later is left out.
        trained_until: The last moment of what the champion was trained on; None where it is not known.
        whole_slates: Keep the older slates of active users too, where something counts click rates: clicks without
            what was shown beside them would make old items look better than they were. They are no examples.

    Raises:
        BadInput: The dataset has no times, nothing is fresh, or all that is fresh is what the champion was trained on.
    """
    if dataset.info.clock != "utc":
        raise BadInput(f"{dataset.folder} has no times, so that nothing in it is fresh.")
    now = now.replace(tzinfo=UTC) if now.tzinfo is None else now
    settings = recipe.retraining
    since = int(np.ceil(now.timestamp() - settings.days * _DAY_SECONDS))
    with new_dataset(out) as draft, open_duckdb(draft / ".work") as engine:
        events = engine.read_in_order(dataset.events)
        events = events.mutate(**{name: ibis.null("string") for name in schema.ADDED_LATER - set(events.columns)})
        past = events.filter(events["at"] <= ibis.literal(now))
        is_fresh = _["at"] >= ibis.literal(datetime.fromtimestamp(since, UTC))
        units = engine.materialise(_examples(engine, past, recipe).mutate(fresh=is_fresh))
        fresh = np.sort(schema.whole_seconds(engine.to_arrow(units.filter(units.fresh).select("at"))["at"]))
        users = _users(engine, past.mutate(fresh=is_fresh), units)
        threshold = _threshold(users, settings.replay * len(fresh), recipe.training.seed)
        moments = _moments(fresh, recipe, since, threshold, trained_until, now)
        is_past = _.kind.isin(schema.POSITIVE_KINDS) | (_IS_SHOWN if whole_slates else False)
        fate = _fate(engine, events, users, now, is_fresh, is_past, threshold)
        rows = {row["fate"]: row["rows"] for row in engine.fetch(fate.group_by("fate").agg(rows=_.count()))}
        kept = engine.materialise(fate.filter(fate.fate.isin((FRESH, REPLAYED, HISTORY))))
        write_table(engine, kept.order_by("order"), draft / "events.parquet", schema.EVENTS)
        for path in filter(None, (dataset.items, dataset.users, dataset.slates)):
            shutil.copyfile(path, draft / path.name)
        found = Recent(
            moments=moments,
            kept={name: rows.pop(name, 0) for name in (FRESH, REPLAYED, HISTORY)},
            left_out=dict(sorted(rows.items())),
            examples={
                "fresh": len(fresh),
                "replayed": int(users["older"][users["place"] < threshold].sum()),
                "in the newest window": int((fresh >= moments.test).sum()),
            },
        )
        _write_info(draft, dataset, engine, kept, found)
    return found


def _examples(engine: DuckDB, events: ir.Table, recipe: Recipe) -> ir.Table:
    """(user_id, at) of every slate, or of every positive where slates are not what is trained on."""
    shown = events.filter(_IS_SHOWN)
    if recipe.data.examples != "interactions" and engine.fetch(shown.limit(1)):
        return shown.group_by("user_id", "request_id").agg(at=_["at"].min()).select("user_id", "at")
    wanted = events.filter(_.kind.isin(schema.POSITIVE_KINDS))
    least = recipe.data.positive_rating
    if least is not None:
        wanted = wanted.filter((_.kind != "rating") | (_.value >= least))
    return wanted.select("user_id", "at")


def _users(engine: DuckDB, events: ir.Table, units: ir.Table) -> dict[str, Any]:
    """By user: whether there is anything `fresh`, and how many `older` examples."""
    active = events.group_by("user_id").agg(fresh=_.fresh.any())
    older = units.filter(~units.fresh).group_by("user_id").agg(older=_.count())
    table = engine.to_arrow(
        active.left_join(older, "user_id").select("user_id", "fresh", older=_.older.coalesce(0)).order_by("user_id")
    )
    return {
        "id": table["user_id"].to_pylist(),
        "fresh": table["fresh"].to_numpy(),
        "older": pc.cast(table["older"], pa.int64()).to_numpy(),
    }


def _threshold(users: dict[str, Any], most: float, seed: int) -> float:
    """Where the draw of users ends; adds the `place` of each."""
    users["place"] = drawn_places(users["id"], seed)
    order = np.argsort(users["place"], kind="stable")
    beyond = np.flatnonzero(np.cumsum(users["older"][order]) > most)
    return float(users["place"][order[beyond[0]]]) if len(beyond) else 1.0


def _moments(
    fresh: np.ndarray, recipe: Recipe, since: int, replay: float, trained_until: datetime | None, now: datetime
) -> Moments:
    settings = recipe.retraining
    if len(fresh) < 2:
        raise BadInput(
            f"there are {len(fresh)} example(s) of the {settings.days:g} days before {now:%Y-%m-%d %H:%M}: wait for "
            "more, or give more --days."
        )
    test = int(np.quantile(fresh, 1 - settings.window, method="higher"))
    if trained_until is not None:
        test = max(test, int(trained_until.timestamp()) + 1)
    before = fresh[fresh < test]
    if len(before) == len(fresh):
        raise BadInput(
            f"there is nothing later than what the champion was trained on (until {trained_until:%Y-%m-%d %H:%M}), so "
            "that nothing says whether another is better: wait for more events."
        )
    if not len(before):
        raise BadInput("there is nothing fresh to train on before the newest window: give more --days.")
    cut = int(np.quantile(before, 1 - settings.validation, method="higher")) if settings.validation else test
    return Moments(since=since, validation=cut, test=test, replay=replay)


def _fate(
    engine: DuckDB,
    events: ir.Table,
    users: dict[str, Any],
    now: datetime,
    is_fresh: Any,
    is_past: Any,
    threshold: float,
) -> ir.Table:
    """The events with what becomes of each."""
    told = engine.from_arrow(
        pa.table({"user_id": users["id"], "active": users["fresh"], "drawn": users["place"] < threshold})
    )
    fate = ibis.cases(
        (_["at"] > ibis.literal(now), LATER),
        (is_fresh, FRESH),
        (_.drawn, REPLAYED),
        (~_.active, NO_USER),
        (is_past, HISTORY),
        else_=NO_HISTORY,
    )
    joined = events.left_join(told, "user_id").mutate(fate=fate)
    return engine.materialise(joined.select(*events.columns, "fate"))


def _write_info(draft: Path, dataset: Dataset, engine: DuckDB, events: ir.Table, found: Recent) -> None:
    (facts,) = engine.fetch(
        events.agg(events=_.count(), users=_.user_id.nunique(), first_at=_["at"].min(), last_at=_["at"].max())
    )
    count = {
        "read": sum(found.kept.values()) + sum(found.left_out.values()),
        "kept": sum(found.kept.values()),
        "dropped": found.left_out,
        "noted": found.kept,
    }
    write_info(draft, dataset.info.model_copy(update={**facts, "report": {"events": count}}))
