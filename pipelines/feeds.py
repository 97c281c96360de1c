"""One user's feed, and what an exported model is asked for it: for a look with one's own eyes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.answers import recommendations
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.prepare import Prepared, prepare_for
from pipelines.result import Result
from pipelines.run import Run
from pipelines.served import as_batch, padded

_READ_SHOWN = 6


def feed(run: Run, dataset: Dataset, user_id: str, *, k: int = 10) -> Result:
    """A user's best `k` items by a run, beside what they had read, with titles.

    As `recommend` gives them: without what the user has seen, and at the end of the dataset.

    Args:
        run: Whose model ranks.
        dataset: Whose items and events count.
        user_id: A user of the dataset.
        k: K, items of the feed.

    Returns:
        `user`, `language`, `read` (item_id, title, category, language; newest first) and `feed` (the same with rank and
        score). `rows()` are those of the feed.

    Raises:
        BadInput: The dataset has no event of that user.

    Example:
        >>> from pipelines import Dataset, Run, feed
        >>> found = feed(Run.open("run"), Dataset.open("data"), "u000019", k=3)  # print(found) shows the titles
        >>> len(found["read"]), [row["rank"] for row in found.rows()]
        (6, [1, 2, 3])
    """
    data = prepare_for(run, dataset)
    user = _row_of(data, user_id, dataset)
    place = {item: row for row, item in enumerate(data.catalogue.ids)}
    found = [
        article(data.catalogue, place[item]) | {"rank": rank, "score": score}
        for _, item, rank, score in recommendations(run, data, k=k, users=[user_id])
    ]
    return Result(
        {
            "user": user_id,
            "language": str(data.behaviour.interactions.user_language[user]),
            "read": last_read(data, user),
            "feed": found,
        },
        feed_lines,
        lambda result: result["feed"],
    )


def model_inputs(run: Run, dataset: Dataset, users: Sequence[str]) -> dict[str, np.ndarray]:
    """What an exported model is asked for the feeds of users, as `serving.Client.predict` takes it.

    The moment is the end of the dataset. A user that the dataset does not know has an empty history.

    Args:
        run: Whose length of a history counts.
        dataset: Whose events count.
        users: B ids.

    Returns:
        For the signature `recommend`, each with a row for each of B users: `history_ids` and `exclude_ids` (B, H) and
        (B, E) str, padded with ""; `history_age_seconds`, `history_dwell_seconds`, `history_scroll_depth` (B, H)
        float32; `language` and `device` (B,) str; `time_seconds` (B,) int64. For `embed_users` leave `exclude_ids` out.

    Raises:
        BadInput: No user is named.

    Example:
        >>> from pipelines import Dataset, Run, model_inputs
        >>> inputs = model_inputs(Run.open("run"), Dataset.open("data"), ["u000019", "nobody"])
        >>> inputs["history_ids"].shape == inputs["history_age_seconds"].shape, inputs["time_seconds"].shape
        (True, (2,))
    """
    if not len(users):
        raise BadInput("name at least one user.")
    data = prepare_for(run, dataset)
    place = {user: row for row, user in enumerate(data.behaviour.interactions.user_ids)}
    return as_batch(padded([request_of(data, run.recipe.features.history, place.get(user)) for user in users]))


def request_of(data: Prepared, length: int, user: int | None) -> dict[str, Any]:
    """The same for one user (their row; None for nobody known), as an instance of the REST API."""
    catalogue, log = data.catalogue, data.behaviour.interactions
    events = np.arange(0 if user is None else log.user_offsets[user], 0 if user is None else log.user_offsets[user + 1])
    rows, earlier = events[-length:], events[:-length]
    devices = [str(device) for device in log.device[rows] if device]
    # A log without times has ages of 0, as in training.
    now = data.end if data.window.has_times else 0
    ages = [float(now - at) if data.window.has_times else 0.0 for at in log.at[rows]]
    return {
        "history_ids": [str(catalogue.ids[item - 1]) for item in log.item[rows]],
        "history_age_seconds": ages,
        "history_dwell_seconds": [float(dwell) for dwell in log.dwell[rows]],
        "history_scroll_depth": [float(depth) for depth in log.scroll[rows]],
        "language": "" if user is None else str(log.user_language[user]),
        "device": devices[-1] if devices else "",
        "time_seconds": int(now),
        "exclude_ids": [str(catalogue.ids[item - 1]) for item in log.item[earlier]],
    }


def last_read(data: Prepared, user: int, most: int = _READ_SHOWN) -> list[dict[str, str]]:
    """What a user read last, the newest first."""
    log = data.behaviour.interactions
    events = np.arange(log.user_offsets[user], log.user_offsets[user + 1])[-most:][::-1]
    return [article(data.catalogue, int(log.item[event]) - 1) for event in events]


def article(catalogue: Catalogue, row: int) -> dict[str, str]:
    """An item for a reader."""
    return {
        "item_id": str(catalogue.ids[row]),
        "title": str(catalogue.title[row]),
        "category": str(catalogue.category[row]),
        "language": str(catalogue.language[row]),
    }


def feed_lines(result: dict[str, Any]) -> list[str]:
    """What the user had read, then what they get, as plain text."""
    lines = [f"User {result['user']} (language {result['language'] or 'unknown'}) had read, newest first:"]
    lines += [f"      {item['category']:<12} {item['title']}" for item in result["read"]]
    lines += ["", "Their feed:"]
    return lines + [
        f"  {place:>2}  {item['score']:6.2f}  {item['category']:<12} {item['title']}"
        for place, item in enumerate(result["feed"], start=1)
    ]


def _row_of(data: Prepared, user_id: str, dataset: Dataset) -> int:
    found = np.flatnonzero(data.behaviour.interactions.user_ids == user_id)
    if not len(found):
        raise BadInput(f"{dataset.folder} has no user {user_id!r} with an event that counts.")
    return int(found[0])
