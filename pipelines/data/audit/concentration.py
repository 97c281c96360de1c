"""How much of everything a few items and a few users have."""

from __future__ import annotations

from typing import Any

import ibis.expr.types as ir
import numpy as np
from ibis import _

from pipelines.data.audit.findings import Checks, percent
from pipelines.data.audit.tables import Tables
from pipelines.data.engine import DuckDB

_POINTS = 51
# One of few has much: only a multiple of an even share is worth a word.
_TIMES_EVEN = 20


def audit_concentration(tables: Tables, checks: Checks) -> dict[str, Any]:
    """Gini coefficients, Lorenz curves, and the largest shares, of positives over items and of events over users."""
    items = _spread(tables.engine, tables.item_facts, "item_id", "positives")
    users = _spread(tables.engine, tables.user_facts, "user_id", "events")
    for check, found, what in (
        ("item_share", items, "of the positives are of the item"),
        ("user_share", users, "of the events are of the user"),
    ):
        if found:
            text = f"{percent(found['top'])} {what} {found['top_id']!r}"
            sure = found["top"] > _TIMES_EVEN / found["count"]
            checks.add(check, found["top"], text, found["top_id"], sure=sure)
    if items:
        checks.add("gini", items["gini"], f"the Gini coefficient of positives over items is {items['gini']:.3f}")
    return {"items": items, "users": users}


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of counts (N,) with a sum above 0: 0 where all are equal, towards 1 where one has all.

    Half the relative mean absolute difference, by the sorted counts (Sen 1973).
    """
    ordered = np.sort(counts).astype(np.float64)
    rank = np.arange(1, len(ordered) + 1)
    return float((2 * rank - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum()))


def _spread(engine: DuckDB, table: ir.Table, key: str, name: str) -> dict[str, Any]:
    having = table.filter(_[name] > 0)
    counts = np.sort(engine.backend.to_pyarrow(having.select(name))[name].to_numpy())
    if not len(counts):
        return {}
    top = engine.fetch(having.order_by(_[name].desc(), key).limit(1).select(key, name))[0]
    total = np.r_[0, np.cumsum(counts[::-1])]
    points = np.unique(np.linspace(0, len(counts), min(_POINTS, len(counts) + 1)).round().astype(int))
    return {
        "count": len(counts),
        "gini": gini(counts),
        "top_id": top[key],
        "top": top[name] / int(total[-1]),
        # Of the most popular first: these shares of the items have these shares of the whole.
        "curve": [{"part": float(at / len(counts)), "share": float(total[at] / total[-1])} for at in points],
    }
