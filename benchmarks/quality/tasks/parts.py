"""Cuts a dataset: some of its positives only, as a view or as a dataset folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.quality.protocol import View
from pipelines.data.dataset import Dataset, new_dataset, write_info
from pipelines.data.histories import Behaviour

SEED = 42


def restrict(view: View, keep: np.ndarray) -> View:
    """The same view with only the positives `keep` (E,) bool: no history holds the others. For data without slates."""
    log = view.behaviour.interactions
    if len(view.behaviour.requests):
        raise ValueError("a dataset with slates is cut by requests, not by positives")
    user = log.user[keep]
    kept = replace(
        log,
        user_offsets=np.searchsorted(user, np.arange(len(log.user_ids) + 1)),
        user=user,
        item=log.item[keep],
        at=log.at[keep],
        dwell=log.dwell[keep],
        request=log.request[keep],
        history_end=np.arange(len(user)),
    )
    return View(view.folder, view.catalogue, Behaviour(kept, view.behaviour.requests, view.behaviour.unknown), view.tag)


def random_share(user: np.ndarray, share: float, *, seed: int) -> np.ndarray:
    """(E,) bool: a random `share` of each user's rows, rounded to whole rows; `user` (E,) is sorted."""
    drawn = np.random.default_rng(seed).random(len(user))
    order = np.lexsort((drawn, user))
    start = np.searchsorted(user, user, side="left")
    size = np.searchsorted(user, user, side="right") - start
    place = np.empty(len(user), np.int64)
    place[order] = np.arange(len(user))
    return place - start < np.round(size * share)


def write_part(folder: Path, destination: Path, pairs: set[tuple[str, str]]) -> None:
    """Write the dataset `folder` again without the events of the (user_id, item_id) `pairs`."""
    dataset = Dataset.open(folder)
    events = pq.read_table(dataset.events)
    keys = zip(events["user_id"].to_pylist(), events["item_id"].to_pylist(), strict=True)
    write_events(dataset, destination, events.filter(pa.array([key not in pairs for key in keys])))


def write_events(dataset: Dataset, destination: Path, events: pa.Table) -> None:
    """Write `dataset` again with other events."""
    info = dataset.info.model_copy(
        update={
            "name": destination.name,
            "events": len(events),
            "users": pc.count_distinct(events["user_id"]).as_py(),
            "first_at": pc.min(events["at"]).as_py(),
            "last_at": pc.max(events["at"]).as_py(),
        }
    )
    with new_dataset(destination) as draft:
        pq.write_table(events, draft / "events.parquet")
        pq.write_table(pq.read_table(dataset.items), draft / "items.parquet")
        if dataset.users is not None:
            pq.write_table(pq.read_table(dataset.users), draft / "users.parquet")
        write_info(draft, info)
