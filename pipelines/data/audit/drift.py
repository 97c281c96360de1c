"""How much two windows of the events differ, column by column.

With many events every difference is significant, so the gate is on sizes, the population stability index and the
Kolmogorov-Smirnov distance, and on what is usual: news has another agenda every day. What is less than twice the
difference of an earlier window of the same length is not held against a limit. Nor is what a few items or users can
do by chance: languages and categories are drawn with the items, devices with the users. Popularity is reported only,
since the items of the last days have not had their clicks yet.

A true change of the agenda is told as one: of 48 simulated newsrooms with 300 articles two are warned of categories,
of 12 with 1,200 none.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
from ibis import _

from pipelines.data.audit.columns import finite_only
from pipelines.data.audit.findings import Checks
from pipelines.data.audit.tables import Tables
from pipelines.data.engine import DuckDB

_SAMPLE = 50_000  # numbers of each window
_BINS = 10
_VALUES = 40  # of a category; the rest is one
_CHANCE = 1e-3
_DAY = 86_400
_FEWEST = 50  # rows of each window
_EARLIER = 20  # windows at most
_NEAR = 2  # windows before the later one that do not say what is usual: a shift may have begun there
_ENOUGH_EARLIER = _NEAR + 3
_TIMES_USUAL = 2.0
UNKNOWN, OTHER = "(unknown)", "(others)"
# Knuth's multiplicative hash: spreads row numbers, so that a sample has no rhythm of its own.
_KNUTH, _RANGE = 2_654_435_761, 2**32

# With whom a value is drawn: events of one item have one language.
_CATEGORIES = {"language": "item", "category": "item", "device": "user", "user_language": "user"}
_SHOWN_NUMBERS = {"position": "position", "rank": "popularity rank"}
_WANTED_NUMBERS = ("dwell_seconds", "scroll_depth", "value")


@dataclass(frozen=True)
class Windows:
    """The later window, from `border` to `end`, and windows of its length before it, counted backwards from 1.

    All times are seconds since 1970. What lies before those windows is window `earlier + 1`.
    """

    border: int
    end: int
    first: int

    @property
    def length(self) -> int:
        return max(1, self.end - self.border)

    @property
    def earlier(self) -> int:
        """How many whole windows there are to say what is usual; 0 if too few."""
        whole = min(_EARLIER, (self.border - self.first) // self.length)
        return whole if whole >= _ENOUGH_EARLIER else 0

    def number(self, second: ir.IntegerValue) -> ir.IntegerValue:
        back = ((self.border - 1 - second) / self.length).floor().cast("int64") + 1
        return ibis.ifelse(second >= self.border, 0, ibis.least(back, self.earlier + 1))


def audit_drift(tables: Tables, checks: Checks, border: int | None) -> dict[str, Any]:
    """Compare the events before `border` (seconds since 1970) with those from it on.

    Languages, categories, devices, hours, positions and popularity are of impressions, or of positives where nothing
    was logged as shown; dwell, depth and ratings are of positives; kinds are of all.
    """
    why = None if border is not None else "there are no events to divide into two windows"
    if not tables.has_times:
        why = "the dataset has no times: the order of its rows is the clock"
    if why is not None or border is None:
        checks.skip(why or "", "drift_psi", "drift_ks")
        return {}
    ends = tables.engine.fetch(tables.facts.agg(first=_.second.min(), last=_.second.max(), shown=_.shown.any()))[0]
    windows = Windows(border, ends["last"] + 1, ends["first"])
    facts = tables.facts.mutate(window=windows.number(_.second))
    wanted = facts.filter(_.positive)
    main = facts.filter(_.shown) if ends["shown"] else wanted
    columns = [_categories(tables.engine, facts, "kind", _.kind)]
    columns += [_categories(tables.engine, main, name, _[name], drawn_with=unit) for name, unit in _CATEGORIES.items()]
    before, after = (border - windows.first) // _DAY, (windows.end - border) // _DAY
    if before and after:
        # Whole days only: half a day has other hours than a day.
        days = main.filter(_.second.between(border - before * _DAY, border + after * _DAY - 1))
        columns.append(_categories(tables.engine, days, "hour", ((_.second % _DAY) / 3600).floor().cast("int64")))
    columns += [_numbers(tables.engine, main, name, title) for name, title in _SHOWN_NUMBERS.items()]
    columns += [_numbers(tables.engine, wanted, name, name) for name in _WANTED_NUMBERS]
    known = [column for column in columns if column]
    for column in known:
        for check, key, what in (("drift_psi", "psi", "PSI"), ("drift_ks", "ks", "Kolmogorov-Smirnov distance")):
            if key not in column:
                continue
            usual = column[f"usual_{key}"]
            sure = column["column"] != _SHOWN_NUMBERS["rank"] and column["chance"] < _CHANCE
            sure = sure and (usual is None or column[key] > _TIMES_USUAL * usual)
            text = f"{column['column']} differs between the windows: {what} {column[key]:.3f}"
            text += "" if usual is None else f", at most {usual:.3f} between earlier windows of that length"
            checks.add(check, column[key], text, column["column"], sure=sure)
    moments = {name: _iso(getattr(windows, name)) for name in ("first", "border", "end")}
    return moments | {"earlier_windows": max(0, windows.earlier - _NEAR), "columns": known}


def psi(reference: np.ndarray, current: np.ndarray) -> float:
    """The population stability index of two rows of counts (K,): the sum of (q - p) ln(q / p).

    Siddiqi, Credit Risk Scorecards (2006): below 0.1 little, from 0.25 on a shift. A count of zero counts as a half.
    """
    p, q = (np.maximum(counts, 0.5) / np.maximum(counts, 0.5).sum() for counts in (reference, current))
    return float(((q - p) * np.log(q / p)).sum())


def _categories(
    engine: DuckDB, rows: ir.Table, name: str, value: ir.Value, drawn_with: str | None = None
) -> dict[str, Any] | None:
    from scipy.stats import chi2, chi2_contingency

    counted = rows.select("window", value=value.cast("string").fill_null(UNKNOWN))
    top = counted.group_by("value").agg(rows=_.count()).order_by(ibis.desc("rows"), "value").limit(_VALUES)
    names = [row["value"] for row in engine.fetch(top)]
    if len(names) < 2:
        return None
    kept = ibis.ifelse(_.value.isin(names), _.value, OTHER)
    found = engine.fetch(counted.group_by(value=kept, window=_.window).agg(rows=_.count()))
    names += [OTHER] if OTHER in {row["value"] for row in found} - set(names) else []
    counts = _by_window([(row["window"], names.index(row["value"]), row["rows"]) for row in found], len(names))
    before, after = counts[1:].sum(axis=0), counts[0]
    if min(before.sum(), after.sum()) < _FEWEST:
        return None
    test = chi2_contingency(np.stack([before, after]), correction=False)
    size, chance = psi(before, after), float(test.pvalue)
    if drawn_with is not None:
        # Of two samples of n and m, PSI / (1/n + 1/m) is chi-squared by chance (Yurdakul 2018).
        inverse = sum(1 / each for each in _effective(engine, rows, drawn_with))
        chance = float(chi2.sf(size / inverse, len(names) - 1))
    return {
        "column": name,
        "psi": size,
        "usual_psi": _usual_psi(counts),
        "p_value": float(test.pvalue),
        "chance": chance,
        # Chi-squared as a size from 0 to 1 (Cramer 1946).
        "cramers_v": float(np.sqrt(test.statistic / counts.sum())),
        **_rows_and_bins(names, before, after),
    }


def _effective(engine: DuckDB, rows: ir.Table, unit: str) -> list[float]:
    """How many independent draws both windows are worth: (sum of n)^2 / sum of n^2 over units (Kish 1965)."""
    each = rows.group_by(unit, later=_.window == 0).agg(rows=_.count())
    sizes = each.group_by("later").agg(sum=_.rows.sum(), squares=(_.rows * _.rows).sum()).order_by("later")
    return [row["sum"] ** 2 / row["squares"] for row in engine.fetch(sizes)]


def _numbers(engine: DuckDB, rows: ir.Table, name: str, title: str) -> dict[str, Any] | None:
    from scipy.stats import ks_2samp

    rows = rows.select("window", "order", number=finite_only(rows[name])).filter(_.number.notnull())
    now = _sample(engine, rows.filter(_.window == 0))[0]
    past, window = _sample(engine, rows.filter(_.window > 0))
    if min(len(past), len(now)) < _FEWEST or past.min() == past.max() == now.min() == now.max():
        return None
    edges = np.unique(np.quantile(past, np.linspace(0, 1, _BINS + 1)[1:-1]))
    places = np.searchsorted(edges, np.r_[now, past], "right")
    shape = (int(window.max()) + 1, len(edges) + 1)
    counts = np.zeros(shape)
    np.add.at(counts, (np.r_[np.zeros(len(now), int), window], places), 1)
    before, after = counts[1:].sum(axis=0), counts[0]
    test = ks_2samp(past, now, method="asymp")
    usual = [
        float(ks_2samp(past[window != each], past[window == each], method="asymp").statistic)
        for each in _earlier(counts)
    ]
    middle = [f"{_label(low)} to {_label(high)}" for low, high in itertools.pairwise(edges)]
    names = [f"below {_label(edges[0])}", *middle, f"{_label(edges[-1])} or more"]
    return {
        "column": title,
        "psi": psi(before, after),
        "usual_psi": _usual_psi(counts),
        "p_value": float(test.pvalue),
        "chance": float(test.pvalue),
        "ks": float(test.statistic),
        "usual_ks": max(usual, default=None),
        **_rows_and_bins(names, before, after),
    }


def _by_window(rows: list[tuple[int, int, int]], values: int) -> np.ndarray:
    """(W, K) counts; window 0 is the later one."""
    counts = np.zeros((max(2, *(window + 1 for window, _value, _count in rows)), values))
    for window, value, count in rows:
        counts[window, value] = count
    return counts


def _earlier(counts: np.ndarray) -> list[int]:
    """The windows that say what is usual and have enough rows; the last of all is what is left over."""
    return [each for each in range(1 + _NEAR, len(counts) - 1) if counts[each].sum() >= _FEWEST]


def _usual_psi(counts: np.ndarray) -> float | None:
    """The largest index of an earlier window against the others before `border`; None where there is no such window."""
    past = counts[1:].sum(axis=0)
    return max((psi(past - counts[each], counts[each]) for each in _earlier(counts)), default=None)


def _rows_and_bins(names: list[str], before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    bins = [
        {"value": name, "before": int(one), "after": int(other)}
        for name, one, other in zip(names, before, after, strict=True)
    ]
    return {"rows": [int(before.sum()), int(after.sum())], "bins": bins}


def _sample(engine: DuckDB, rows: ir.Table) -> tuple[np.ndarray, np.ndarray]:
    """At most about `_SAMPLE` of the numbers and their windows, the same ones every time."""
    count = engine.fetch(rows.agg(rows=_.count()))[0]["rows"]
    if count > _SAMPLE:
        rows = rows.filter((_.order * _KNUTH) % _RANGE < int(_RANGE * _SAMPLE / count))
    table = engine.backend.to_pyarrow(rows.order_by("order").select("number", "window"))
    return table["number"].to_numpy(), table["window"].to_numpy()


def _label(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def _iso(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()
