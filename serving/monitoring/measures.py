"""What a window of traffic was like: for all of it, by variant, and by slice of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from serving.experiments.values import ratio_values
from serving.monitoring.window import SECOND, Window

K = 10
NEW_HOURS = 24.0
OTHERS = "(others)"
_NORMAL = 1.959964  # 95 % of a normal distribution are within so many standard errors
_MOST_VARIANTS = 20
_MOST_VALUES = 10  # of what slices a window; the rest is one
_SHARES = {"ctr", "precision_at_k", "clicked_slates", "new_share", "fallback_rate"}


@dataclass(frozen=True)
class Measure:
    """A number of a window.

    Args:
        variant: "" for all.
        slice: Such as `language=en`; "" for all.
        low, high: The 95 % interval, where it is a mean over users' traffic.
        count: What it is of: the slates, shown items, wanted items or users that stand below the line.
        note: The reason, of a drift.
    """

    variant: str
    slice: str
    metric: str
    value: float
    low: float | None
    high: float | None
    count: int
    note: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.variant, self.slice, self.metric


def measure(window: Window, *, k: int = K, new_hours: float = NEW_HOURS) -> list[Measure]:
    """All measures of a window. What nothing can be said of (no slate, no latency known) is left out.

    - `slates`, `users`: how many.
    - `ctr`: the share of shown items that were wanted (`ctr`); `clicked_slates`: of slates with such an item;
      `precision_at_k`: of the first `k` of a slate, and the mean of that over slates.
    - `dwell_seconds`: mean over wanted items of which it is known.
    - `coverage`: different items shown, of those on offer in the window.
    - `novelty`: mean over shown items of -log2 of the share of the window's users who were shown the item, in bits
      (self-information: Zhou et al., PNAS 2010; Vargas and Castells, RecSys 2011).
    - `new_share`: of shown items whose time of publication is known, those younger than `new_hours`.
    - `latency_p50_ms`, `latency_p99_ms`; `fallback_rate`: of slates that the model did not make.

    Intervals are those of ratios whose independent unit is the user, not the slate (Deng, Knoblich and Lu 2018). They
    hold for some dozens of users or more. By slice are language, device, placement, version, and users with and
    without earlier events; the rarest values of each are one.
    """
    parts = _Parts(window, k, new_hours)
    every = np.ones(len(window), bool)
    groups, variants = list(_groups(window)), _values(window.labels["variant"], _MOST_VARIANTS)
    found = list(parts.of(every, "", ""))
    for name, inside in groups:
        found += parts.of(inside, "", name)
    for variant, mask in variants:
        found += parts.of(mask, variant, "")
        if len(variants) > 1:
            for name, inside in groups:
                found += parts.of(mask & inside, variant, name)
    return found


def _groups(window: Window) -> Iterator[tuple[str, np.ndarray]]:
    version = np.array(["none" if each < 0 else str(each) for each in window.version], object)
    columns = {name: window.labels[name] for name in ("language", "device", "placement")} | {"version": version}
    for name, column in columns.items():
        for value, mask in _values(column, _MOST_VALUES):
            yield f"{name}={value}", mask
    if len(window):
        known = window.known[window.user]
        yield "user=known", known
        yield "user=new", ~known


def _values(column: np.ndarray, most: int) -> list[tuple[str, np.ndarray]]:
    """The values of a column with their rows, the most frequent first; "" is nobody's value, and is `unknown`."""
    code: dict[str, int] = {}
    # Named before they are counted: somebody may send "unknown", or the name of the others, themselves.
    places = np.array([code.setdefault(value or "unknown", len(code)) for value in column], np.int64)
    names = list(code)
    counts = np.bincount(places, minlength=len(names))
    order = sorted(range(len(names)), key=lambda place: (-counts[place], names[place]))
    rest = [] if len(order) <= most else [*order[most:], *(place for place in order[:most] if names[place] == OTHERS)]
    found = [(names[place], places == place) for place in order[:most] if place not in rest]
    if rest:
        found.append((OTHERS, np.isin(places, rest)))
    return found


class _Parts:
    """What the measures of every group are summed from: a numerator and a denominator a slate."""

    def __init__(self, window: Window, k: int, new_hours: float) -> None:
        self._window = window
        self._slate = window.slate
        rows = len(window)
        size = np.diff(window.offsets)
        position = np.arange(len(window.item)) - np.repeat(window.offsets[:-1], size)
        ones = np.ones(len(window.item))

        def by_slate(values: np.ndarray) -> np.ndarray:
            return np.bincount(self._slate, values, rows)

        wanted, first = window.wanted.astype(float), position < k
        first_size = by_slate(first.astype(float))
        there = (size > 0).astype(float)
        dwell_known = window.wanted & ~np.isnan(window.dwell)
        since = window.since[window.item] if len(window.item) else np.zeros(0, np.int64)
        age = window.at[self._slate] - since
        dated = since > 0
        self._ratios = {
            "ctr": (by_slate(wanted), by_slate(ones)),
            "precision_at_k": (by_slate(wanted * first) / np.maximum(first_size, 1), there),
            "clicked_slates": ((by_slate(wanted) > 0).astype(float), np.ones(rows)),
            "dwell_seconds": (by_slate(np.where(dwell_known, window.dwell, 0.0)), by_slate(dwell_known.astype(float))),
            "novelty": (by_slate(self._surprise()), by_slate(ones)),
            "new_share": (
                by_slate((dated & (age < new_hours * 3_600 * SECOND)).astype(float)),
                by_slate(dated.astype(float)),
            ),
            "fallback_rate": ((window.labels["fallback"] != "").astype(float), np.ones(rows)),
        }

    def _surprise(self) -> np.ndarray:
        """(S,) bits of each shown item."""
        window = self._window
        users = len(window.user_ids)
        pairs = np.unique(window.item * max(1, users) + window.user[self._slate])
        shown_to = np.bincount(pairs // max(1, users), minlength=len(window.item_ids))
        return -np.log2(shown_to[window.item] / max(1, users))

    def of(self, mask: np.ndarray, variant: str, slice_: str) -> Iterator[Measure]:
        """The measures of the slates of a mask."""
        window, chosen = self._window, np.flatnonzero(mask)
        rows, user = len(chosen), window.user[chosen]
        users = np.unique(user)

        def plain(metric: str, value: float, count: int) -> Measure:
            return Measure(variant, slice_, metric, float(value), None, None, count)

        yield plain("slates", rows, rows)
        yield plain("users", len(users), rows)
        if not rows:
            return
        for metric, (above, below) in self._ratios.items():
            sums = [np.bincount(user, each[chosen], len(window.user_ids))[users] for each in (above, below)]
            total = float(sums[1].sum())
            if total <= 0:
                continue
            value = float(sums[0].sum()) / total
            low, high = _interval(value, *sums, share=metric in _SHARES)
            yield Measure(variant, slice_, metric, value, low, high, round(total))
        if window.offered:
            shown = np.unique(window.item[mask[self._slate]])
            yield plain("coverage", min(1.0, len(shown) / window.offered), len(shown))
        latency = window.latency_ms[chosen]
        latency = latency[~np.isnan(latency)]
        if len(latency):
            for percent in (50, 99):
                yield plain(f"latency_p{percent}_ms", np.quantile(latency, percent / 100), len(latency))


def _interval(value: float, above: np.ndarray, below: np.ndarray, *, share: bool) -> tuple[float | None, float | None]:
    users = len(above)
    if users < 2:
        return None, None
    error = float(ratio_values([above], [below])[0].std(ddof=1)) / math.sqrt(users)
    if not share:
        return value - _NORMAL * error, value + _NORMAL * error
    if value in (0.0, 1.0):
        # Nobody differs, but the next user may: Wilson's interval (1927), with users as the trials.
        reach = _NORMAL**2 / (users + _NORMAL**2)
        return (0.0, reach) if value == 0.0 else (1.0 - reach, 1.0)
    return max(0.0, value - _NORMAL * error), min(1.0, value + _NORMAL * error)
