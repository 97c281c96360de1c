"""The recipe's own split of a dataset, from numbers alone: no ids, no texts."""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
from ibis import _

from pipelines.data.audit.tables import Tables
from pipelines.data.histories import Behaviour, Interactions, Requests
from pipelines.data.splits import Parts, split, split_at_random
from pipelines.recipe import Recipe


@dataclass(frozen=True)
class Divided:
    """The positives and slates of a dataset, and their parts.

    Of `behaviour` only user, item, at, request, offsets and the requests' user and at are filled; the rest is empty.
    """

    behaviour: Behaviour
    parts: Parts
    on_requests: bool


def divide(tables: Tables, recipe: Recipe) -> Divided | str:
    """Split as `prepare` does; or the reason why this recipe cannot split this dataset."""
    behaviour = _behaviour(tables)
    rule = recipe.data.split
    on_requests = bool(len(behaviour.requests)) and recipe.data.examples != "interactions"
    if recipe.data.examples == "impressions" and not on_requests:
        return "the recipe asks for impressions with a request, and the dataset has none"
    if rule.by in ("items", "language"):
        return f"a split by {rule.by} holds back items and not events"
    if rule.by != "random":
        return Divided(
            behaviour, split(behaviour, rule, on_requests=on_requests, seed=recipe.training.seed), on_requests
        )
    if on_requests:
        return "the recipe divides positives at random, but the dataset has slates: set data.examples to interactions"
    return Divided(*split_at_random(behaviour, rule, recipe.training.seed), on_requests)


def _behaviour(tables: Tables) -> Behaviour:
    facts = tables.facts
    slates = facts.filter(_.shown & _.request.notnull()).group_by("user", "request")
    slates = slates.agg(slate_at=_["at"].min(), slate_order=_.order.min(), second=_.second.min())
    slates = tables.engine.materialise(
        slates.mutate(place=ibis.row_number().over(order_by=["slate_at", "slate_order"]))
    )
    # As in pipelines.data.histories: events of one showing are one positive, an event without a slate is its own.
    alone = ibis.ifelse(_.request.isnull(), _.order, ibis.null("int64"))
    wanted = facts.filter(_.positive & _.known).group_by("user", "item", "request", alone=alone)
    wanted = wanted.agg(moment=_["at"].min(), second=_.second.min(), order=_.order.min())
    joined = wanted.left_join(slates, ["user", "request"]).order_by("user", "moment", "order")
    log = tables.engine.backend.to_pyarrow(joined.select("user", "item", "second", place=_.place.fill_null(-1)))
    shown = tables.engine.backend.to_pyarrow(slates.order_by("place").select("user", "second"))
    user, users = _column(log, "user"), tables.engine.fetch(tables.user_facts.agg(users=_.count()))[0]["users"]
    zeros = np.zeros(len(user), np.int8)
    interactions = Interactions(
        user_ids=np.zeros(0, object),
        user_language=np.zeros(0, object),
        user_offsets=np.searchsorted(user, np.arange(users + 1)),
        user=user,
        item=_column(log, "item"),
        at=_column(log, "second"),
        dwell=zeros,
        scroll=zeros,
        device=zeros,
        request=_column(log, "place"),
        history_end=zeros,
    )
    none = np.zeros(0, np.int8)
    requests = Requests(
        ids=np.zeros(len(shown), np.int8),
        user=_column(shown, "user"),
        at=_column(shown, "second"),
        device=none,
        history_end=none,
        offsets=np.zeros(1, np.int64),
        item=none,
        item_ids=none,
        clicked=none,
        read=none,
        liked=none,
    )
    return Behaviour(interactions, requests, 0)


def _column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy()
