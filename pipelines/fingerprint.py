"""The fingerprint of a version: what its data and its answers are like, for monitoring to compare traffic with."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import numpy as np

from pipelines.data.dataset import Dataset
from pipelines.golden import best_of
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared
from pipelines.progress import say
from pipelines.run import Run
from pipelines.second_stage import TwoStageRanker
from serving.monitoring.features import (
    OF_THE_POLICY,
    Feature,
    Samples,
    Wanted,
    features_of,
    score_features,
)
from serving.monitoring.fingerprint import Fingerprint
from serving.monitoring.reference import reference_of

HOURS, WINDOWS = 24.0, 7
_MOST_USERS = 5_000  # of a window
_ASKED, _AT_ONCE = 1_000, 100  # users whose answers are looked at
_SCORES = 10


def training_fingerprint(
    run: Run,
    dataset: Dataset,
    data: Prepared,
    first: ModelRanker,
    second: TwoStageRanker | None,
    on_offer: np.ndarray,
    *,
    model: str,
    version: int,
    seed: int = 0,
) -> Fingerprint | None:
    """What the last `WINDOWS` days of the dataset were like, each user once a day, and what the model answers to them.

    Users are taken at one of their requests, or where the dataset has none at one of their events; chance chooses.
    Whoever was shown what a publisher chose sees other items than a model's users: what depends on that is left out,
    unless a gateway made the dataset. Scores and vectors are the Python model's, which an export has compared with the
    saved one's.

    Returns:
        None where the dataset has no times or no events; a line on standard error says so.
    """
    log, requests = data.behaviour.interactions, data.behaviour.requests
    if dataset.info.clock != "utc" or not len(log):
        say("no fingerprint for monitoring: the dataset has no times" if len(log) else "no fingerprint: no events")
        return None
    rng = np.random.default_rng(seed)
    seconds = int(HOURS * 3_600)
    moments = _Moments(data, on_requests=bool(len(requests)))
    begun = int(moments.at.min())
    # At least one, however short the log is.
    count = max(1, min(WINDOWS, (data.end + 1 - begun) // seconds))
    windows, chosen = [], []
    for number in range(count, 0, -1):
        start = data.end + 1 - number * seconds
        rows = moments.one_each(start, start + seconds, rng)
        samples, ages = moments.samples(rows), moments.ages(rows)
        windows.append(features_of(samples, moments.wanted(start, start + seconds, rng), age_hours=ages))
        chosen.append(rows)
    rows = np.concatenate(chosen)
    rows = rng.permutation(rows)[:_ASKED]
    vectors, scores = _answers(moments, rows, data, first, second, on_offer)
    user = moments.user[rows]
    return reference_of(
        windows,
        {"embedding": Feature(vectors, user)},
        also=score_features(scores, user),
        hours=HOURS,
        left_out=() if dataset.slates is not None else OF_THE_POLICY,
        source=f"the training data ({data.name})",
        history=data.window.length,
        until=_until(run, data),
        model=model,
        version=version,
    )


def _until(run: Run, data: Prepared) -> int:
    """Where the data ended that the weights were trained on, which an export may have newer items than."""
    try:
        return round(datetime.fromisoformat(run.origin.last_at or "").timestamp() * 1e6)
    except ValueError:
        return data.end * 1_000_000


def _answers(
    moments: _Moments,
    rows: np.ndarray,
    data: Prepared,
    first: ModelRanker,
    second: TwoStageRanker | None,
    on_offer: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (n, D), and the best scores (n, K), NaN for none."""
    vectors, scores = [], []
    for start in range(0, len(rows), _AT_ONCE):
        block = rows[start : start + _AT_ONCE]
        user, end = moments.user[block], moments.history_end[block]
        batch = data.window.batch(user, end, moments.at[block], moments.device[block])
        hidden = [set(row[row > 0].tolist()) for row in batch["history"]]
        _, found, users = best_of(batch, hidden, data, first, second, on_offer, _SCORES)
        vectors.append(users)
        scores.append(np.where(np.isfinite(found), found, np.nan))
    if not vectors:
        return np.zeros((0, 1)), np.zeros((0, 1))
    return np.concatenate(vectors), np.concatenate(scores)


class _Moments:
    """When somebody asked: M requests, or events where there are none."""

    def __init__(self, data: Prepared, *, on_requests: bool) -> None:
        log, requests = data.behaviour.interactions, data.behaviour.requests
        self.data, self.on_requests = data, on_requests
        source = requests if on_requests else log
        self.user, self.at, self.device = source.user, source.at, source.device
        self.history_end = source.history_end

    def one_each(self, start: int, end: int, rng: np.random.Generator) -> np.ndarray:
        """A moment of every user from `start` up to `end`, in seconds since 1970."""
        rows = rng.permutation(np.flatnonzero((self.at >= start) & (self.at < end)))
        return _first_of_each(rows, self.user)[:_MOST_USERS]

    def samples(self, rows: np.ndarray) -> Samples:
        log, catalogue = self.data.behaviour.interactions, self.data.catalogue
        user, end = self.user[rows], self.history_end[rows]
        begin = np.minimum(np.maximum(log.user_offsets[user], end - self.data.window.length), end)
        _, place = log.spans(begin, end)
        item = log.item[place] - 1
        return Samples(
            user=user,
            at=self.at[rows].astype(np.float64),
            language=log.user_language[user],
            device=self._devices(rows, begin, end),
            offsets=np.r_[0, np.cumsum(end - begin)],
            item_id=catalogue.ids[item],
            category=catalogue.category[item],
            event_at=log.at[place].astype(np.float64),
            dwell=log.dwell[place].astype(np.float64),
            scroll=log.scroll[place].astype(np.float64),
        )

    def wanted(self, start: int, end: int, rng: np.random.Generator) -> Wanted:
        """One item of each user that they wanted of what they were shown from `start` up to `end`."""
        log, requests, catalogue = self.data.behaviour.interactions, self.data.behaviour.requests, self.data.catalogue
        asked_at, there = log.at, np.ones(len(log), bool)
        shown = None
        if self.on_requests:
            there = log.request >= 0
            asked_at = np.where(there, requests.at[log.request], 0)
            inside = np.flatnonzero((requests.at >= start) & (requests.at < end))
            _, place = log.spans(requests.offsets[inside], requests.offsets[inside + 1])
            item = requests.item[place]
            shown = dict(Counter(catalogue.category[item[item > 0] - 1].tolist()))
        rows = rng.permutation(np.flatnonzero(there & (asked_at >= start) & (asked_at < end)))
        rows = _first_of_each(rows, log.user)[:_MOST_USERS]
        return Wanted(
            user=log.user[rows],
            item=log.item[rows],
            category=catalogue.category[log.item[rows] - 1],
            dwell=log.dwell[rows].astype(np.float64),
            scroll=log.scroll[rows].astype(np.float64),
            shown=shown,
        )

    def ages(self, rows: np.ndarray) -> np.ndarray:
        """(n,) hours, the median of what each request showed; NaN where nothing is known."""
        found = np.full(len(rows), np.nan)
        requests, published = self.data.behaviour.requests, self.data.catalogue.published_at
        if self.on_requests:
            for place, row in enumerate(rows):
                item = requests.item[requests.offsets[row] : requests.offsets[row + 1]]
                since = published[item[item > 0] - 1]
                since = since[since > 0]
                if len(since):
                    found[place] = (self.at[row] - np.median(since)) / 3_600
        return found

    def _devices(self, rows: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The request's, or else the latest known of the history, as the gateway tells the model."""
        log = self.data.behaviour.interactions
        found = self.device[rows].astype(object)
        for place in np.flatnonzero(found == ""):
            known = [each for each in log.device[begin[place] : end[place]] if each]
            found[place] = known[-1] if known else ""
        return found


def _first_of_each(rows: np.ndarray, unit: np.ndarray) -> np.ndarray:
    first = np.unique(unit[rows], return_index=True)[1]
    return rows[np.sort(first)]
