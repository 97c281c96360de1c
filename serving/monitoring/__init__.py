"""Monitoring: what a window of traffic was like, whether it has drifted from what a model knows, and what follows.

with Store("store") as store:
    for start, end in due_windows(store, now, hours=24):
        seen = observe(store, start, end, fingerprint=Fingerprint.load("models/feed/3/assets.extra/fingerprint.json"))
        fired = evaluate_rules(store, Rules(), seen, now)

Nothing here reads a clock. What is stored are aggregates: no user is in them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.monitoring.drift import Finding, find_drift
    from serving.monitoring.fingerprint import BadFingerprint, Fingerprint
    from serving.monitoring.measures import Measure, measure
    from serving.monitoring.monitor import Observation, due_windows, observe
    from serving.monitoring.records import alerts, evaluate_rules, last_window, read_measures
    from serving.monitoring.rules import BadRules, Rule, Rules
    from serving.monitoring.triggers import Fired, State, step
    from serving.monitoring.vectors import Embedder
    from serving.monitoring.window import Window, read_window

# Each where it is: a trainer that makes a fingerprint has no database, and a gateway needs no statistics.
_HOMES = {
    "drift": ("Finding", "find_drift"),
    "fingerprint": ("BadFingerprint", "Fingerprint"),
    "measures": ("Measure", "measure"),
    "monitor": ("Observation", "due_windows", "observe"),
    "records": ("alerts", "evaluate_rules", "last_window", "read_measures"),
    "rules": ("BadRules", "Rule", "Rules"),
    "triggers": ("Fired", "State", "step"),
    "vectors": ("Embedder",),
    "window": ("Window", "read_window"),
}
__all__ = [
    "BadFingerprint",
    "BadRules",
    "Embedder",
    "Finding",
    "Fingerprint",
    "Fired",
    "Measure",
    "Observation",
    "Rule",
    "Rules",
    "State",
    "Window",
    "alerts",
    "due_windows",
    "evaluate_rules",
    "find_drift",
    "last_window",
    "measure",
    "observe",
    "read_measures",
    "read_window",
    "step",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
