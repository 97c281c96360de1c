"""From events to what models train on: each user's positives in order, and each request's slate.

Preparation is one set of Ibis expressions on DuckDB; what comes out are flat arrays in which a history is a slice.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _

from pipelines.data import schema
from pipelines.data.dataset import Dataset
from pipelines.data.engine import open_engine

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


def load_behaviour(dataset: Dataset, item_ids: np.ndarray, *, positive_rating: float | None = None) -> Behaviour:
    """Read a dataset's events.

    Args:
        item_ids: The catalogue's ids, in its order.
        positive_rating: Ratings below it are not positives; None counts every rating.

    Raises:
        BadInput: A file of the dataset is broken.
    """
    with tempfile.TemporaryDirectory() as folder, open_engine(Path(folder) / "work") as engine:
        try:
            return _load(engine.backend, dataset, item_ids, positive_rating)
        except duckdb.Error:
            dataset.verify()  # the input's fault or ours?
            raise


def _load(
    backend: ibis.BaseBackend, dataset: Dataset, item_ids: np.ndarray, positive_rating: float | None
) -> Behaviour:
    events = backend.read_parquet(str(dataset.events), file_row_number=True).rename(order="file_row_number")
    later = {name: ibis.null("string") for name in schema.ADDED_LATER - set(events.columns)}
    events = events.mutate(**later) if later else events
    positives = _positives(events, positive_rating)
    slates = _slates(events, positives)
    catalogue = ibis.memtable(
        pa.table({"item_id": pa.array(item_ids, pa.string()), "item": np.arange(1, len(item_ids) + 1, dtype=np.int32)})
    )
    numbered_users = events.select("user_id").distinct().order_by("user_id")
    user_ids = _column(numbered_users.to_pyarrow(), "user_id")
    users = ibis.memtable(pa.table({"user_id": pa.array(user_ids, pa.string()), "user": np.arange(len(user_ids))}))

    wanted = (
        positives.join(users, "user_id")
        .left_join(catalogue, "item_id")
        .order_by("user", "at", "order")
        .select("user", "item", "at", "dwell", "scroll", "device", "request_id")
        .to_pyarrow()
    )
    shown = (
        slates.join(users, "user_id")
        .left_join(catalogue, "item_id")
        .order_by("slate_at", "slate_order", "position", "order")
        .select("user", "request_id", "slate_at", "slate_order", "slate_device", "item", "item_id", *_LABELS)
        .to_pyarrow()
    )
    known = wanted.filter(pc.is_valid(wanted["item"]))
    unknown = len(wanted) - len(known)
    return _arrays(known, unknown, shown, user_ids, _user_languages(backend, dataset, users, len(user_ids)))


def _positives(events: ibis.Table, positive_rating: float | None) -> ibis.Table:
    """One row per item that a user wanted, where click, read and like of one showing are one."""
    wanted = events.filter(_.kind.isin(schema.POSITIVE_KINDS))
    if positive_rating is not None:
        wanted = wanted.filter((_.kind != "rating") | (_.value >= positive_rating))
    # Request ids and event ids may overlap, so one cannot stand in for the other.
    lone = ibis.ifelse(_.request_id.isnull(), _.event_id, ibis.null("string"))
    return wanted.group_by(_.user_id, _.item_id, _.request_id, lone=lone).aggregate(
        at=_.at.min(),
        order=_.order.min(),
        dwell=_.dwell_seconds.max().coalesce(0.0),
        scroll=_.scroll_depth.max().coalesce(0.0),
        # Of one showing and of one slate there is one device; should the log disagree, the answer is still one.
        device=_.device.min().coalesce(""),
        read=((_.kind == "read") | (_.dwell_seconds >= READ_SECONDS)).any().coalesce(False),
        liked=_.kind.isin(schema.LIKING_KINDS).any(),
    )


def _slates(events: ibis.Table, positives: ibis.Table) -> ibis.Table:
    shown = events.filter((_.kind == "impression") & _.request_id.notnull())
    wanted = positives.filter(_.request_id.notnull()).select(
        "user_id", "request_id", "item_id", "read", "liked", clicked=True
    )
    slate = ibis.window(group_by=["user_id", "request_id"])
    return (
        shown.select("user_id", "request_id", "item_id", "at", "position", "order", "device")
        .mutate(
            slate_at=_.at.min().over(slate),
            slate_order=_.order.min().over(slate),
            slate_device=_.device.min().over(slate).coalesce(""),
        )
        .left_join(wanted, ["user_id", "request_id", "item_id"])
        .drop("user_id_right", "request_id_right", "item_id_right")
        .mutate(**{name: _[name].coalesce(False) for name in _LABELS})
    )


def _user_languages(backend: ibis.BaseBackend, dataset: Dataset, users: ibis.Table, count: int) -> np.ndarray:
    if dataset.users is None:
        return np.full(count, "", dtype=object)
    known = backend.read_parquet(str(dataset.users)).select("user_id", "language")
    table = users.left_join(known, "user_id").order_by("user").select(language=_.language.coalesce("")).to_pyarrow()
    return _column(table, "language")


def _arrays(wanted: pa.Table, unknown: int, shown: pa.Table, user_ids: np.ndarray, languages: np.ndarray) -> Behaviour:
    user = _column(wanted, "user")
    at = schema.whole_seconds(wanted["at"])
    user_offsets = np.searchsorted(user, np.arange(len(user_ids) + 1))

    order = _column(shown, "slate_order")
    starts = np.flatnonzero(np.r_[True, order[1:] != order[:-1]]) if len(order) else np.zeros(0, np.int64)
    request_user = _column(shown, "user")[starts]
    request_ids = _column(shown, "request_id")[starts]
    place = {key: row for row, key in enumerate(zip(request_user, request_ids, strict=True))}
    asked = zip(user, _column(wanted, "request_id"), strict=True)
    request = np.array([place.get(key, -1) for key in asked], dtype=np.int64)

    # The first positive of the same user at the same moment: what a slate's events must not see beyond.
    moment_start = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (at[1:] != at[:-1])]) if len(user) else user
    same_moment = np.repeat(moment_start, np.diff(np.r_[moment_start, len(user)]))
    request_device = _column(shown, "slate_device")[starts]
    device = _column(wanted, "device")
    if len(request_device):
        device = np.where((device == "") & (request >= 0), request_device[request], device)
    in_slate = np.array([value is not None for value in _column(wanted, "request_id")], dtype=bool)
    interactions = Interactions(
        user_ids=user_ids,
        user_language=languages,
        user_offsets=user_offsets,
        user=user,
        item=_filled(wanted, "item"),
        at=at,
        dwell=_column(wanted, "dwell").astype(np.float32),
        scroll=_column(wanted, "scroll").astype(np.float32),
        device=device,
        request=request,
        history_end=np.where(in_slate, same_moment, np.arange(len(user))),
    )
    request_at = schema.whole_seconds(shown["slate_at"])[starts]
    requests = Requests(
        ids=request_ids,
        user=request_user,
        at=request_at,
        device=request_device,
        history_end=_first_not_before(interactions, request_user, request_at),
        offsets=np.r_[starts, len(order)],
        item=_filled(shown, "item"),
        item_ids=_column(shown, "item_id"),
        **{name: _column(shown, name).astype(bool) for name in _LABELS},
    )
    return Behaviour(interactions, requests, unknown)


def _first_not_before(interactions: Interactions, user: np.ndarray, at: np.ndarray) -> np.ndarray:
    """For each (user, moment): how far the user's positives that are strictly earlier reach."""
    if not len(interactions):
        return np.zeros(len(user), np.int64)
    low = min(interactions.at.min(), at.min() if len(at) else 0)
    span = max(interactions.at.max(), at.max() if len(at) else 0) - low + 1
    key = interactions.user * span + (interactions.at - low)
    return np.searchsorted(key, user * span + (at - low), side="left")


def _column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy(zero_copy_only=False)


def _filled(table: pa.Table, name: str) -> np.ndarray:
    return np.nan_to_num(table[name].to_numpy(zero_copy_only=False).astype(np.float64)).astype(np.int32)
