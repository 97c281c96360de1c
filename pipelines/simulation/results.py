"""What a simulation has shown: the loop beside the first model, and what a bad candidate could do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pipelines.data.sources.newsroom.sizes import DAY
from pipelines.simulation.operator import HOLDOUT, Night
from pipelines.simulation.traffic import Visits
from serving.experiments.exposures import label_of

_Z = 1.959964  # of a 95 % interval
ARMS = {"loop": label_of(HOLDOUT, "loop"), "frozen": label_of(HOLDOUT, "control")}


def summary(visits: Visits, nights: Sequence[Night], live_from: int, days: int, spoilt: int | None) -> dict[str, Any]:
    """The numbers of a simulation, for JSON and for its page."""
    day = (visits.at - live_from) // DAY
    arms = {name: visits.variant == variant for name, variant in ARMS.items()}
    lead = click_rate_lead(visits, arms["loop"], arms["frozen"])
    return {
        "visits": len(visits.user),
        "fallbacks": int(visits.fallback.sum()),
        "ctr": {name: _rate(visits, mask) for name, mask in arms.items()},
        "true_ctr": {name: _ratio(visits.expected[mask], visits.shown[mask]) for name, mask in arms.items()},
        "lead": lead,
        "by_day": [
            _of_day(visits, number, {name: mask & (day == number) for name, mask in arms.items()})
            for number in range(days)
        ],
        "retrained": sum(night.retrained is not None for night in nights),
        "promoted": sum("was promoted" in each["done"] for night in nights for each in night.experiments),
        "spoilt": None if spoilt is None else _spoilt(visits, day, nights, spoilt),
        "nights": [asdict(night) for night in nights],
    }


def _of_day(visits: Visits, number: int, arms: dict[str, np.ndarray]) -> dict[str, Any]:
    true = {name: _ratio(visits.expected[mask], visits.shown[mask]) for name, mask in arms.items()}
    return {"day": number, **{name: _rate(visits, mask) for name, mask in arms.items()}, "true": true}


def click_rate_lead(visits: Visits, arm: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """The difference of two arms' click rates, with a 95 % interval by the delta method over users."""
    values = []
    for mask in (arm, other):
        users, place = np.unique(visits.user[mask], return_inverse=True)
        clicks, shown = (np.bincount(place, column[mask], len(users)) for column in (visits.clicks, visits.shown))
        rate = clicks.sum() / shown.sum()
        error = np.sqrt(((clicks - rate * shown) ** 2).sum()) / shown.sum()
        values.append((rate, error, len(users)))
    (rate, error, count), (base, base_error, base_count) = values
    reach = _Z * float(np.hypot(error, base_error))
    value = float(rate - base)
    return {
        "value": value,
        "low": value - reach,
        "high": value + reach,
        "relative": value / float(base),
        "users": [count, base_count],
    }


def _spoilt(visits: Visits, day: np.ndarray, nights: Sequence[Night], version: int) -> dict[str, Any]:
    """How far a version got that learned nothing: its share of the visits, and how many looks it took."""
    served = visits.version == version
    days = np.unique(day[served])
    looks = [each for night in nights for each in night.experiments if each["name"] == f"version-{version}"]
    shares = [float(served[day == number].mean()) for number in days]
    return {
        "version": version,
        "largest_share_of_a_day": max(shares, default=0.0),
        "visits": int(served.sum()),
        "days": [int(number) for number in days],
        "looks": len(looks),
        "verdict": looks[-1]["verdict"] if looks else None,
        "why": looks[-1]["why"] if looks else None,
    }


def _rate(visits: Visits, mask: np.ndarray) -> float:
    return _ratio(visits.clicks[mask], visits.shown[mask])


def _ratio(above: np.ndarray, below: np.ndarray) -> float:
    return float(above.sum() / below.sum()) if below.sum() else 0.0
