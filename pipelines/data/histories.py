"""From events to what models train on: each user's positives in order, and each request's slate.

Preparation is one set of Ibis expressions on DuckDB; what comes out are flat arrays in which a history is a slice.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ibis import _

from pipelines.data import schema
from pipelines.data.dataset import Dataset
from pipelines.data.engine import Engine, OpenEngine, open_duckdb

# A click that is followed by this dwell is a satisfied one (Fox et al. 2005, Kim et al. 2014).
READ_SECONDS = 30.0
_LABELS = ("clicked", "read", "liked")


@dataclass(frozen=True)
class Interactions:
    """What U users wanted: E positives, by user, then time, then the source's order.

    A user's positives are the slice `user_offsets[u] : user_offsets[u + 1]`; the history of positive i is the slice
    from there to `history_end[i]`. An event of a slate sees only what is strictly earlier, since a slate's events
    share a moment; an event without a slate sees everything above it in the order.
    """

    user_ids: np.ndarray  # (U,) str
    user_language: np.ndarray  # (U,) str, "" for unknown
    user_offsets: np.ndarray  # (U + 1,)
    user: np.ndarray  # (E,) place in user_ids
    item: np.ndarray  # (E,) row of the catalogue + 1
    at: np.ndarray  # (E,) seconds since 1970
    dwell: np.ndarray  # (E,) seconds, 0 for unknown
    scroll: np.ndarray  # (E,) depth from 0 to 1, 0 for unknown
    device: np.ndarray  # (E,) str, "" for unknown; of its request where the event itself does not say
    request: np.ndarray  # (E,) place in the requests, -1 for none
    history_end: np.ndarray  # (E,)

    def __len__(self) -> int:
        return len(self.item)

    def spans(self, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The slices `start[q] : end[q]` laid end to end: for each place in them, its q and itself."""
        sizes = end - start
        row = np.repeat(np.arange(len(sizes)), sizes)
        return row, np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(start, sizes)


@dataclass(frozen=True)
class Requests:
    """R slates, by time: request r showed `item[offsets[r] : offsets[r + 1]]`, in the order of the positions."""

    ids: np.ndarray  # (R,) str
    user: np.ndarray  # (R,) place in Interactions.user_ids
    at: np.ndarray  # (R,)
    device: np.ndarray  # (R,) str, "" for unknown
    history_end: np.ndarray  # (R,) end of the user's history in Interactions
    offsets: np.ndarray  # (R + 1,)
    item: np.ndarray  # (S,) row of the catalogue + 1; 0 for unknown
    item_ids: np.ndarray  # (S,) str, as the source wrote them
    clicked: np.ndarray  # (S,) bool
    read: np.ndarray  # (S,) bool: an event says so, or the dwell was `READ_SECONDS` or more
    liked: np.ndarray  # (S,) bool: liked, shared or saved

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Behaviour:
    """Both views of a dataset's events.

    A positive whose item the catalogue does not know says nothing to a model and is in no history; `unknown` counts
    them.
    """

    interactions: Interactions
    requests: Requests
    unknown: int


def load_behaviour(
    dataset: Dataset,
    item_ids: np.ndarray,
    *,
    positive_rating: float | None = None,
    engine: OpenEngine = open_duckdb,
) -> Behaviour:
    """Read a dataset's events.

    Args:
        item_ids: The catalogue's ids, in its order.
        positive_rating: Ratings below it are not positives; None counts every rating.
        engine: Opens what computes; every engine finds the same.

    Raises:
        BadInput: A file of the dataset is broken.
    """
    with tempfile.TemporaryDirectory() as folder, engine(Path(folder) / "work") as opened:
        try:
            return _load(opened, dataset, pa.array(item_ids, pa.string()), positive_rating)
        except Exception:
            dataset.verify()  # the input's fault or ours?
            raise


def _load(engine: Engine, dataset: Dataset, catalogue: pa.Array, positive_rating: float | None) -> Behaviour:
    events = engine.read_in_order(dataset.events)
    later = {name: ibis.null("string") for name in schema.ADDED_LATER - set(events.columns)}
    events = events.mutate(**later) if later else events
    user_ids, asked_for = (_distinct(engine, events, name) for name in ("user_id", "item_id"))
    unknown = asked_for.filter(pc.invert(pc.is_in(asked_for, value_set=catalogue)))
    item_ids = pa.concat_arrays([catalogue, unknown])
    users, items = (_numbered(engine, name, ids) for name, ids in (("user", user_ids), ("item", item_ids)))
    slates = engine.materialise(_slates(events, users))
    positives = engine.materialise(_positives(events, slates, users, items, positive_rating))
    wanted = engine.to_arrow(positives.order_by("user", "at", "order"))
    known = wanted.filter(pc.less(wanted["item"], len(catalogue)))
    interactions, requests = _arrays(
        known,
        engine.to_arrow(slates.order_by("slate_at", "slate")),
        engine.to_arrow(_shown(events, slates, positives, items)),
        user_ids.to_numpy(zero_copy_only=False),
        _languages(dataset, user_ids),
        item_ids.to_numpy(zero_copy_only=False),
        len(catalogue),
    )
    return Behaviour(interactions, requests, len(wanted) - len(known))


def _distinct(engine: Engine, events: ibis.Table, name: str) -> pa.Array:
    found = engine.to_arrow(events.select(name).distinct())[name].cast(pa.string())
    return found.take(pc.sort_indices(found)).combine_chunks()


def _numbered(engine: Engine, name: str, ids: pa.Array) -> ibis.Table:
    """A number for each id, since numbers are quicker to join and sort."""
    return engine.from_arrow(pa.table({f"{name}_id": ids, name: np.arange(len(ids), dtype=np.int32)}))


_IS_SHOWN = (_.kind == "impression") & _.request_id.notnull()


def _slates(events: ibis.Table, users: ibis.Table) -> ibis.Table:
    """One row per slate, known by its first row from here on: one number instead of two ids."""
    slates = events.filter(_IS_SHOWN).group_by("user_id", "request_id")
    found = slates.aggregate(slate=_.order.min(), slate_at=_.at.min(), slate_device=_.device.min().coalesce(""))
    return found.join(users, "user_id")


def _positives(
    events: ibis.Table, slates: ibis.Table, users: ibis.Table, items: ibis.Table, positive_rating: float | None
) -> ibis.Table:
    """One row per item that a user wanted, where click, read and like of one showing are one.

    What belongs to no request is one by itself: an import has left no event_id twice.
    """
    wanted = events.filter(_.kind.isin(schema.POSITIVE_KINDS))
    if positive_rating is not None:
        wanted = wanted.filter((_.kind != "rating") | (_.value >= positive_rating))
    wanted = wanted.select(
        *("user_id", "item_id", "request_id", "at", "order", "dwell_seconds", "scroll_depth", "device"),
        read=((_.kind == "read") | (_.dwell_seconds >= READ_SECONDS)).coalesce(False),
        liked=_.kind.isin(schema.LIKING_KINDS),
    )
    showings = (
        wanted.filter(_.request_id.notnull())
        .group_by("user_id", "item_id", "request_id")
        .aggregate(
            at=_.at.min(),
            order=_.order.min(),
            dwell_seconds=_.dwell_seconds.max(),
            scroll_depth=_.scroll_depth.max(),
            # Of one showing and of one slate there is one device; should the log disagree, the answer is still one.
            device=_.device.min(),
            read=_.read.any(),
            liked=_.liked.any(),
        )
        .left_join(slates.drop("user"), ["user_id", "request_id"])
        .select(
            *("user_id", "item_id", "at", "order", "dwell_seconds", "scroll_depth", "device", "read", "liked", "slate"),
            in_request=True,
        )
    )
    lone = wanted.filter(_.request_id.isnull()).drop("request_id").mutate(slate=ibis.null("int64"), in_request=False)
    return (
        showings.union(lone.select(*showings.columns))
        .join(users, "user_id")
        .join(items, "item_id")
        .select(
            *("user", "item", "at", "order", "read", "liked", "slate", "in_request"),
            dwell=_.dwell_seconds.coalesce(0.0),
            scroll=_.scroll_depth.coalesce(0.0),
            device=_.device.coalesce(""),
        )
    )


def _shown(events: ibis.Table, slates: ibis.Table, positives: ibis.Table, items: ibis.Table) -> ibis.Table:
    """What the slates showed and what came of it, slate by slate."""
    wanted = positives.filter(_.slate.notnull()).select("slate", "item", "read", "liked", clicked=True)
    return (
        events.filter(_IS_SHOWN)
        .join(slates, ["user_id", "request_id"])
        .join(items, "item_id")
        .select("slate_at", "slate", "position", "order", "item")
        .left_join(wanted, ["slate", "item"])
        .order_by("slate_at", "slate", "position", "order")
        .select("slate", "item", **{name: _[name].coalesce(False) for name in _LABELS})
    )


def _languages(dataset: Dataset, users: pa.Array) -> np.ndarray:
    if dataset.users is None:
        return np.full(len(users), "", dtype=object)
    known = pq.read_table(dataset.users, columns=["user_id", "language"])
    found = known["language"].take(pc.index_in(users, value_set=known["user_id"]))
    return _objects(pc.fill_null(found, ""))


def _arrays(
    wanted: pa.Table,
    slates: pa.Table,
    shown: pa.Table,
    user_ids: np.ndarray,
    languages: np.ndarray,
    item_ids: np.ndarray,
    known_items: int,
) -> tuple[Interactions, Requests]:
    user = _numbers(wanted, "user")
    at = schema.whole_seconds(wanted["at"])
    slate, first_row = _numbers(shown, "slate"), _numbers(slates, "slate")
    request = _places(_numbers(wanted, "slate", missing=-1), first_row)
    # The first positive of the same user at the same moment: what a slate's events must not see beyond.
    moment_start = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (at[1:] != at[:-1])]) if len(user) else user
    same_moment = np.repeat(moment_start, np.diff(np.r_[moment_start, len(user)]))
    request_device = _objects(slates["slate_device"])
    device = _objects(wanted["device"])
    if len(request_device):
        device = np.where((device == "") & (request >= 0), request_device[request], device)
    interactions = Interactions(
        user_ids=user_ids,
        user_language=languages,
        user_offsets=np.searchsorted(user, np.arange(len(user_ids) + 1)),
        user=user,
        item=_numbers(wanted, "item").astype(np.int32) + 1,
        at=at,
        dwell=wanted["dwell"].to_numpy().astype(np.float32),
        scroll=wanted["scroll"].to_numpy().astype(np.float32),
        device=device,
        request=request,
        history_end=np.where(wanted["in_request"].to_numpy(), same_moment, np.arange(len(user))),
    )
    request_user, request_at = _numbers(slates, "user"), schema.whole_seconds(slates["slate_at"])
    item, rows = shown["item"].to_numpy(), np.arange(len(shown))
    requests = Requests(
        ids=slates["request_id"].to_numpy(zero_copy_only=False),
        user=request_user,
        at=request_at,
        device=request_device,
        history_end=_first_not_before(interactions, request_user, request_at),
        offsets=np.r_[rows[:1], rows[1:][slate[1:] != slate[:-1]], len(rows)],
        item=np.where(item < known_items, item + 1, 0).astype(np.int32),
        item_ids=item_ids[item],
        **{name: shown[name].to_numpy() for name in _LABELS},
    )
    return interactions, requests


def _places(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where each value stands in `among`, which are distinct row numbers of a file; -1 for what is not there."""
    place = np.full(among.max(initial=-1) + 2, -1)
    place[among] = np.arange(len(among))
    return place[np.minimum(values, len(place) - 1)]


def _first_not_before(interactions: Interactions, user: np.ndarray, at: np.ndarray) -> np.ndarray:
    """For each (user, moment): how far the user's positives that are strictly earlier reach."""
    if not len(interactions):
        return np.zeros(len(user), np.int64)
    low = min(interactions.at.min(), at.min() if len(at) else 0)
    span = max(interactions.at.max(), at.max() if len(at) else 0) - low + 1
    key = interactions.user * span + (interactions.at - low)
    return np.searchsorted(key, user * span + (at - low), side="left")


def _numbers(table: pa.Table, name: str, *, missing: int = 0) -> np.ndarray:
    return pc.fill_null(table[name].cast(pa.int64()), missing).to_numpy()


def _objects(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A column of strings as (…,) str, in which equal ones are one object: most columns have few different ones."""
    coded = column.dictionary_encode()
    coded = coded.unify_dictionaries().combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    return coded.dictionary.to_numpy(zero_copy_only=False)[coded.indices.to_numpy()]
