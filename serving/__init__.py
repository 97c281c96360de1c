"""Answers: everything that runs beside a trained model. Reads SavedModels, never Keras code.

    model server   ModelServer, Options: TensorFlow Serving's API without a container;  Client and AsyncClient ask it
    gateway        ServingStack: a gateway with its model server in this process;  GatewayServer and Settings alone
    store          Store, EventLog: events, slates, items, keys, in SQLite or PostgreSQL
    edge           EdgeRecommender, BundleStore, EdgeServer: a bundle of LiteRT files, without TensorFlow
    monitoring     observe, find_drift, Fingerprint, Rules, evaluate_rules
    experiments    Experiment, start_experiment, look, stop_experiment;  difference, off_policy and their like

Times are microseconds since 1970 in UTC, as `wall_clock` gives them, where a name does not say otherwise.

The examples below are run in the folder of the examples of `pipelines`, whose `store` was made like this.

    from pipelines import Dataset, fill_store

    fill_store(Dataset.open("data"), "store")

Importing this package is instant; what a part needs loads with the first name that is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.client.calls import Answer
    from serving.client.client import AsyncClient, Client
    from serving.client.errors import ClientError
    from serving.edge.errors import EdgeError
    from serving.edge.recommender import EdgeRecommender
    from serving.edge.server import EdgeServer
    from serving.edge.store import BundleStore
    from serving.events.errors import StoreError
    from serving.events.items import put_items
    from serving.events.log import EventLog
    from serving.events.store import Store
    from serving.experiments.declaration import BadExperiment, Experiment
    from serving.experiments.looking import Look, look
    from serving.experiments.off_policy import OffPolicy, off_policy
    from serving.experiments.records import (
        change_experiment,
        list_experiments,
        list_looks,
        read_experiment,
        start_experiment,
        stop_experiment,
    )
    from serving.experiments.sequential import Difference, boundary, difference, users_needed
    from serving.experiments.thompson import thompson_shares
    from serving.gateway.clock import wall_clock
    from serving.gateway.server import GatewayServer
    from serving.gateway.settings import Settings
    from serving.gateway.stack import ServingStack
    from serving.model_server.errors import ServingError
    from serving.model_server.options import OptionError, Options
    from serving.model_server.server import ModelServer
    from serving.monitoring.drift import Finding, find_drift
    from serving.monitoring.fingerprint import BadFingerprint, Fingerprint
    from serving.monitoring.monitor import Observation, due_windows, observe
    from serving.monitoring.records import alerts, evaluate_rules, read_measures
    from serving.monitoring.rules import BadRules, Rule, Rules

# Each where it is: an import of the package loads none of them.
_HOMES = {
    "client.calls": ("Answer",),
    "client.client": (
        "AsyncClient",
        "Client",
    ),
    "client.errors": ("ClientError",),
    "edge.errors": ("EdgeError",),
    "edge.recommender": ("EdgeRecommender",),
    "edge.server": ("EdgeServer",),
    "edge.store": ("BundleStore",),
    "events.errors": ("StoreError",),
    "events.items": ("put_items",),
    "events.log": ("EventLog",),
    "events.store": ("Store",),
    "experiments.declaration": (
        "BadExperiment",
        "Experiment",
    ),
    "experiments.looking": (
        "Look",
        "look",
    ),
    "experiments.off_policy": (
        "OffPolicy",
        "off_policy",
    ),
    "experiments.records": (
        "change_experiment",
        "list_experiments",
        "list_looks",
        "read_experiment",
        "start_experiment",
        "stop_experiment",
    ),
    "experiments.sequential": (
        "Difference",
        "boundary",
        "difference",
        "users_needed",
    ),
    "experiments.thompson": ("thompson_shares",),
    "gateway.clock": ("wall_clock",),
    "gateway.server": ("GatewayServer",),
    "gateway.settings": ("Settings",),
    "gateway.stack": ("ServingStack",),
    "model_server.errors": ("ServingError",),
    "model_server.options": (
        "OptionError",
        "Options",
    ),
    "model_server.server": ("ModelServer",),
    "monitoring.drift": (
        "Finding",
        "find_drift",
    ),
    "monitoring.fingerprint": (
        "BadFingerprint",
        "Fingerprint",
    ),
    "monitoring.monitor": (
        "Observation",
        "due_windows",
        "observe",
    ),
    "monitoring.records": (
        "alerts",
        "evaluate_rules",
        "read_measures",
    ),
    "monitoring.rules": (
        "BadRules",
        "Rule",
        "Rules",
    ),
}
__all__ = [
    "Answer",
    "AsyncClient",
    "BadExperiment",
    "BadFingerprint",
    "BadRules",
    "BundleStore",
    "Client",
    "ClientError",
    "Difference",
    "EdgeError",
    "EdgeRecommender",
    "EdgeServer",
    "EventLog",
    "Experiment",
    "Finding",
    "Fingerprint",
    "GatewayServer",
    "Look",
    "ModelServer",
    "Observation",
    "OffPolicy",
    "OptionError",
    "Options",
    "Rule",
    "Rules",
    "ServingError",
    "ServingStack",
    "Settings",
    "Store",
    "StoreError",
    "alerts",
    "boundary",
    "change_experiment",
    "difference",
    "due_windows",
    "evaluate_rules",
    "find_drift",
    "list_experiments",
    "list_looks",
    "look",
    "observe",
    "off_policy",
    "put_items",
    "read_experiment",
    "read_measures",
    "start_experiment",
    "stop_experiment",
    "thompson_shares",
    "users_needed",
    "wall_clock",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
