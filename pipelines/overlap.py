"""What a log that is to be judged shares with the log that a run was trained on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np

from pipelines.data.catalogue import places
from pipelines.data.dataset import Dataset
from pipelines.data.splits import Part, Parts
from pipelines.errors import BadInput
from pipelines.prepare import Prepared
from pipelines.run import Run


def trained_until(run: Run) -> int:
    """The last moment of what a run was trained on, in seconds since 1970."""
    last = run.origin.last_at
    return 0 if last in (None, "None") else int(datetime.fromisoformat(last).timestamp())


def are_timed(*datasets: Dataset) -> bool:
    """Whether the moments of these datasets can be compared: they have times, and not one for all events."""
    return all(each.info.clock == "utc" and each.info.first_at != each.info.last_at for each in datasets)


def as_far_as_trained(run: Run, own: Prepared) -> Prepared:
    """A log that has gone on since a run was trained on it, as that had it: what is later is in no part."""
    until = trained_until(run)
    late = own.behaviour.interactions.at > until, own.behaviour.requests.at > until
    return replace(own, parts=Parts(*(np.where(each, int(Part.UNUSED), int(Part.TRAIN)) for each in late)))


def without_learned(run: Run, own: Prepared, data: Prepared, *, timed: bool) -> tuple[Prepared, dict[str, int]]:
    """`data` without what `run` may have learned from in its parts, and how many requests and positives that was.

    Histories keep all of it.

    Raises:
        BadInput: Nothing is left.
    """
    positives, requests = learned_from(run, own, data, timed=timed)
    parts = Parts(
        np.where(positives, int(Part.UNUSED), data.parts.interactions),
        np.where(requests, int(Part.UNUSED), data.parts.requests),
    )
    if len(positives) and positives.all():
        until = f" (until {run.origin.last_at})" if timed else ""
        raise BadInput(
            f"{data.name} holds nothing but what {run.folder} may have learned from{until}: name a dataset with newer "
            "events, or leave --data out to judge the run's own test part."
        )
    return replace(data, parts=parts), {"requests": int(requests.sum()), "positives": int(positives.sum())}


def learned_from(run: Run, own: Prepared, data: Prepared, *, timed: bool) -> tuple[np.ndarray, np.ndarray]:
    """(E,) and (R,) bool: the positives and requests of `data` that a run may have learned from.

    Where the two logs share a positive (user, item and moment), that is all that is not later than the end of the run's
    log: `data` holds what the run, and the runs that it began with, were trained on. A log that shares none, such as
    another publisher's, is judged whole, however old it is. Without times to go by, it is each positive (user and item)
    that both logs hold, and its request.

    Args:
        own: The log that the run was trained on.
        timed: Whether both logs have times that tell what came first.
    """
    log, requests, known = data.behaviour.interactions, data.behaviour.requests, own.behaviour.interactions
    # Numbered as the run's log has them, from 1; 0 is in `data` alone.
    user = places(log.user_ids, list(known.user_ids))[1:][log.user]
    item = places(data.catalogue.ids, list(own.catalogue.ids))[log.item]
    mine, theirs = [user, item], [known.user + 1, known.item]
    if not timed:
        shared = _in_both(mine, theirs)
        return shared, np.isin(np.arange(len(requests)), log.request[shared])
    if not _in_both([*mine, log.at], [*theirs, known.at]).any():
        return np.zeros(len(log), bool), np.zeros(len(requests), bool)
    return log.at <= trained_until(run), requests.at <= trained_until(run)


def _in_both(mine: list[np.ndarray], theirs: list[np.ndarray]) -> np.ndarray:
    """(E,) bool: which rows of the columns `mine` are rows of `theirs` too."""
    columns = [np.concatenate(pair) for pair in zip(mine, theirs, strict=True)]
    order = np.lexsort(columns)
    first = np.r_[True, np.any([column[order][1:] != column[order][:-1] for column in columns], axis=0)]
    row = np.empty(len(order), np.int64)
    row[order] = np.cumsum(first[: len(order)])
    return np.isin(row[: len(mine[0])], row[len(mine[0]) :])
