"""The tables that every check reads: events with numbers for ids, and with what is known of item and user.

Numbers take a third of the ids' memory, so that grouping ten million events stays within the engine's.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
from ibis import _

from pipelines.data import schema
from pipelines.data.dataset import Dataset
from pipelines.data.engine import DuckDB

# Users with fewer positives than this are called new.
NEW_USER = 5
# The most popular items that together have this share of the positives are called head.
HEAD_SHARE = 0.5
HEAD, TAIL, NEW, OLD = "head", "tail", "new", "old"
# Pages stay open after an item was removed.
_GRACE_SECONDS = 7_200


@dataclass(frozen=True)
class Tables:
    """Views of one dataset in one engine.

    Attributes:
        source: events.parquet as it is, without null columns for what it lacks.
        items: items.parquet as it is, without images.
        users: users.parquet as it is, or None.
        item_facts: One row an item of catalogue or events: item, known, language, category, published, removed,
            events, impressions, positives, popularity (head or tail), rank (from 1, by positives).
        user_facts: One row a user of the events: user, listed, user_language, created, events, positives, tenure.
        facts: One row an event: order, user, item, request (numbers), kind, positive, second (since 1970), position,
            dwell_seconds, scroll_depth, value, propensity, variant, device, and what is known of the item and user.
        showings: One row for each user, request and item: shown (impressions), position, shown_at, wanted, wanted_at.
        has_times: Whether `second` is a time and not the number of a row.
    """

    engine: DuckDB
    dataset: Dataset
    source: ir.Table
    items: ir.Table
    users: ir.Table | None
    item_facts: ir.Table
    user_facts: ir.Table
    facts: ir.Table
    showings: ir.Table
    has_times: bool


def load_tables(engine: DuckDB, dataset: Dataset, positive_rating: float | None) -> Tables:
    """Number and join a dataset's tables; the result is in the engine's files."""
    source = engine.backend.read_parquet(str(dataset.events), file_row_number=True).rename(order="file_row_number")
    later = {name: ibis.null("string") for name in schema.ADDED_LATER - set(source.columns)}
    source = source.mutate(**later) if later else source
    items = engine.read(dataset.items).drop("image")
    users = engine.read(dataset.users) if dataset.users else None

    facts, item_ids, user_ids = _numbered(engine, source, positive_rating, items)
    item_facts = engine.materialise(_item_facts(facts, item_ids, items))
    user_facts = engine.materialise(_user_facts(facts, user_ids, users))
    about_item = item_facts.select(
        "item", "known", "language", "category", "published", "removed", "popularity", "rank"
    )
    about_user = user_facts.select("user", "user_language", "created", "tenure")
    joined = facts.join(about_item, "item").join(about_user, "user")
    joined = joined.mutate(
        before_publication=_.second < _.published,
        after_removal=_.second >= _.removed + _GRACE_SECONDS,
        before_joining=_.second < _.created,
    ).drop("published", "removed", "created")
    joined = engine.materialise(joined)
    showings = engine.materialise(_showings(joined))
    return Tables(
        engine, dataset, source, items, users, item_facts, user_facts, joined, showings, dataset.info.clock == "utc"
    )


def _seconds(moment: ir.TimestampValue) -> ir.IntegerValue:
    """Whole seconds since 1970, rounded down, as `schema.whole_seconds`."""
    return moment.truncate("s").epoch_seconds().cast("int64")


def _numbered(
    engine: DuckDB, source: ir.Table, positive_rating: float | None, items: ir.Table
) -> tuple[ir.Table, ir.Table, ir.Table]:
    """Events with numbers for ids, and the ids of items and users with their numbers."""

    def number(ids: ir.Table, key: str, name: str) -> ir.Table:
        place = ibis.row_number().over(order_by=ids[key]).cast("int32")
        return engine.materialise(ids.select(key, **{name: place}))

    every_item = source.select("item_id").union(items.select("item_id")).filter(_.item_id.notnull()).distinct()
    item_ids = number(every_item, "item_id", "item")
    user_ids = number(source.select("user_id").filter(_.user_id.notnull()).distinct(), "user_id", "user")
    requests = number(source.select("request_id").filter(_.request_id.notnull()).distinct(), "request_id", "request")
    positive = _.kind.isin(schema.POSITIVE_KINDS)
    if positive_rating is not None:
        positive = positive & ((_.kind != "rating") | (_.value >= positive_rating))
    facts = (
        source.join(item_ids, "item_id")
        .join(user_ids, "user_id")
        .left_join(requests, "request_id")
        .filter(_["at"].notnull())
        .mutate(
            positive=positive.fill_null(False),
            shown=(_.kind == "impression").fill_null(False),
            # Rounded down: by itself the engine rounds half a second up.
            second=_["at"].truncate("s").epoch_seconds().cast("int64"),
        )
        .select(
            *("order", "user", "item", "request", "kind", "positive", "shown", "second", "at", "position"),
            *("dwell_seconds", "scroll_depth", "value", "propensity", "variant", "device"),
        )
    )
    return engine.materialise(facts), item_ids, user_ids


def _item_facts(facts: ir.Table, item_ids: ir.Table, items: ir.Table) -> ir.Table:
    # Of rows with one id, any would do; the least of each column is at least always the same.
    catalogue = items.group_by("item_id").agg(
        language=_.language.min(),
        category=_.category.min(),
        published=_seconds(_.published_at.min()),
        removed=_seconds(_.removed_at.min()),
        known=ibis.literal(True),
    )
    counts = facts.group_by("item").agg(
        events=_.count(), impressions=_.shown.cast("int64").sum(), positives=_.positive.cast("int64").sum()
    )
    rows = item_ids.left_join(catalogue, "item_id").drop("item_id_right").left_join(counts, "item").drop("item_right")
    rows = rows.mutate(
        known=_.known.fill_null(False),
        **{name: _[name].fill_null(0).cast("int64") for name in ("events", "impressions", "positives")},
    )
    falling = ibis.window(order_by=[ibis.desc("positives"), "item"], rows=(None, 0))
    above = rows.positives.sum().over(falling) - rows.positives
    head = (above < HEAD_SHARE * rows.positives.sum().over(ibis.window())) & (rows.positives > 0)
    rank = ibis.row_number().over(order_by=[ibis.desc("positives"), "item"]) + 1
    return rows.mutate(popularity=ibis.ifelse(head, HEAD, TAIL), rank=rank)


def _user_facts(facts: ir.Table, user_ids: ir.Table, users: ir.Table | None) -> ir.Table:
    counts = facts.group_by("user").agg(events=_.count(), positives=_.positive.cast("int64").sum())
    rows = user_ids.left_join(counts, "user").drop("user_right")
    if users is None:
        rows = rows.mutate(listed=True, user_language=ibis.null("string"), created=ibis.null("int64"))
    else:
        known = users.group_by("user_id").agg(
            user_language=_.language.min(),
            created=_seconds(_.created_at.min()),
            listed=ibis.literal(True),
        )
        rows = rows.left_join(known, "user_id").drop("user_id_right").mutate(listed=_.listed.fill_null(False))
    return rows.mutate(
        events=_.events.fill_null(0),
        positives=_.positives.fill_null(0),
        tenure=ibis.ifelse(_.positives.fill_null(0) < NEW_USER, NEW, OLD),
    )


def _showings(facts: ir.Table) -> ir.Table:
    return (
        facts.filter(_.request.notnull())
        .group_by("user", "request", "item")
        .agg(
            shown=_.shown.cast("int64").sum(),
            position=_.position.min(where=_.shown),
            shown_at=_["at"].min(where=_.shown),
            wanted=_.positive.any(),
            wanted_at=_["at"].min(where=_.positive),
        )
    )
