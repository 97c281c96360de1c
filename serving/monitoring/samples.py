"""Who asked in a window, as the model was told of them: read from the store."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa

from serving.events import Store
from serving.events.tables import ITEMS
from serving.events.users import read_states_before
from serving.monitoring.features import Feature, Samples, Wanted, features_of
from serving.monitoring.window import SECOND, Window

HISTORY = 50  # as the gateway's setting
_SEEN = 200
_SCORES = 10  # of a slate, at most
_CHUNK = 500
MOST_USERS = 5_000


class Sampled(NamedTuple):
    """Of a window: who asked, what they wanted, and what they were shown: see `features_of`."""

    samples: Samples
    wanted: Wanted
    age_hours: np.ndarray
    scores: np.ndarray
    version: np.ndarray  # (S,) of the model that answered, -1 for none

    def features(self, version: int | None = None) -> dict[str, Feature]:
        """By name. Scores are those of `version`'s answers alone; of any version's where it is None."""
        scores = self.scores
        if version is not None:
            scores = np.where((self.version == version)[:, None], scores, np.nan)
        return features_of(self.samples, self.wanted, age_hours=self.age_hours, scores=scores)


def sample(
    store: Store,
    window: Window,
    *,
    history: int = HISTORY,
    most_users: int = MOST_USERS,
    positive_rating: float | None = None,
) -> Sampled:
    """One request of each user, chosen by its hash: the same ones every time.

    Args:
        history: Events of a user that the model is told.
        most_users: Of more, chance chooses.

    Raises:
        StoreAway: The database cannot be reached.
    """
    rows = _one_each(window.user, window.request)[:most_users]
    asked = [(str(window.user_ids[window.user[row]]), int(window.at[row])) for row in rows]
    states = list(
        read_states_before(store, asked, history=history, seen=max(_SEEN, history), positive_rating=positive_rating)
    )
    item_ids = [item for state in states for item in state.item_ids]
    categories = _categories(store, window, item_ids)
    device = [str(window.labels["device"][row]) or state.device for row, state in zip(rows, states, strict=True)]
    samples = Samples(
        user=window.user[rows],
        at=window.at[rows] / SECOND,
        language=window.labels["language"][rows],
        device=_strings(device),
        offsets=np.r_[0, np.cumsum([len(state.item_ids) for state in states], dtype=np.int64)],
        item_id=_strings(item_ids),
        category=_strings([categories.get(item, "") for item in item_ids]),
        event_at=np.array([at for state in states for at in state.at_seconds], np.float64),
        dwell=np.array([value for state in states for value in state.dwell_seconds], np.float64),
        scroll=np.array([value for state in states for value in state.scroll_depth], np.float64),
    )
    version = np.where(window.labels["fallback"][rows] == "", window.version[rows], -1)
    return Sampled(samples, _wanted(window, most_users), _ages(window, rows), _scores(window, rows, version), version)


def _one_each(unit: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """For each unit the place of its least draw; in the order of the draws."""
    order = np.argsort(draw, kind="stable")
    first = np.unique(unit[order], return_index=True)[1]
    return order[np.sort(first)]


def _wanted(window: Window, most: int) -> Wanted:
    slate = window.slate
    places = np.flatnonzero(window.wanted)
    # Spread by multiplication (Knuth), so that the first places of a slate are not preferred.
    draw = window.request[slate[places]] * np.uint64(2_654_435_761) + places.astype(np.uint64) * np.uint64(
        0x9E3779B97F4A7C15
    )
    chosen = places[_one_each(window.user[slate[places]], draw)[:most]]
    item = window.item[chosen]
    return Wanted(
        user=window.user[slate[chosen]],
        item=item,
        category=window.category[item] if len(item) else _strings([]),
        dwell=np.nan_to_num(window.dwell[chosen]),
        scroll=np.nan_to_num(window.scroll[chosen]),
        shown=dict(Counter(window.category[window.item].tolist())) if len(window.item) else {},
    )


def _ages(window: Window, rows: np.ndarray) -> np.ndarray:
    found = np.full(len(rows), np.nan)
    for place, row in enumerate(rows):
        since = window.since[window.item[window.offsets[row] : window.offsets[row + 1]]]
        since = since[since > 0]
        if len(since):
            found[place] = (window.at[row] - np.median(since)) / SECOND / 3_600
    return found


def _scores(window: Window, rows: np.ndarray, version: np.ndarray) -> np.ndarray:
    found = np.full((len(rows), _SCORES), np.nan)
    for place, row in enumerate(rows):
        if version[place] >= 0:
            scores = window.score[window.offsets[row] : window.offsets[row + 1]]
            best = -np.sort(-scores[~np.isnan(scores)])[:_SCORES]
            found[place, : len(best)] = best
    return found


def _categories(store: Store, window: Window, item_ids: list[str]) -> dict[str, str]:
    known = dict(zip(window.item_ids, window.category, strict=True))
    missing = sorted(set(item_ids) - known.keys())
    with store.reading() as connection:
        for begin in range(0, len(missing), _CHUNK):
            chosen = ITEMS.c.item_id.in_(missing[begin : begin + _CHUNK])
            for row in connection.execute(sa.select(ITEMS.c.item_id, ITEMS.c.category).where(chosen)):
                known[row.item_id] = row.category or ""
    return known


def _strings(values: list[str]) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column
