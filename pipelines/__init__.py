"""Pipelines: steps that read artefacts and write artefacts, each of them a command of `belfry` too.

    data     import_table, import_mind, import_movielens, import_newsroom, import_store -> a folder that `Dataset` opens
    look     audit
    train    Recipe, train -> a folder that `Run` opens;  pretrain, tune, cross_validate, compare, ablate, adapt
    ask      evaluate, feed, recommend, score, embed, embed_users, explore
    serve    export -> MODELS/NAME/VERSION;  quantise, Registry, fill_store, model_inputs
    loop     monitor, retrain, conclude, estimate_off_policy, simulate

What a step returns prints as the command shows it, and has rows for a plot (`Result`). Paths may be strings. What is
wrong with the input is a `BadInput` of one sentence.

The examples below are run in a folder that was made like this.

    from pipelines import Dataset, NewsroomSize, Recipe, Run, export, import_newsroom, train

    import_newsroom(NewsroomSize(articles=250, users=60, days=4, requests=500), "data", name="newsroom")
    recipe = Recipe.shipped("ids").changed({"towers.width": 8, "training.epochs": 2, "export.top_k": 10})
    train(recipe, Dataset.open("data"), "run")
    export(Run.open("run"), "models/news")

Importing this package is instant; what a step needs loads with the first name that is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.ablation import ablate, compare
    from pipelines.adaptation import adapt
    from pipelines.answers import recommend, score
    from pipelines.data.audit.audit import AuditReport, audit
    from pipelines.data.dataset import Dataset
    from pipelines.data.report import ImportReport
    from pipelines.data.sources.mind import import_mind
    from pipelines.data.sources.movielens import import_movielens
    from pipelines.data.sources.newsroom.sizes import NewsroomSize
    from pipelines.data.sources.newsroom.source import import_newsroom
    from pipelines.data.sources.store import import_store
    from pipelines.data.sources.table import import_table
    from pipelines.embeddings import embed, embed_users, read_embeddings
    from pipelines.errors import BadInput, Busy, Stopped
    from pipelines.evaluation import evaluate
    from pipelines.experiments import Conclusion, conclude, conclude_all
    from pipelines.exploration import explore
    from pipelines.feeds import feed, model_inputs
    from pipelines.folds import cross_validate
    from pipelines.monitoring import MonitoredWindow, RetrainCommand, Watched, monitor
    from pipelines.off_policy.estimate import Estimate, estimate_off_policy
    from pipelines.presets import locate_preset
    from pipelines.pretraining import pretrain
    from pipelines.quantisation.quantise import quantise
    from pipelines.recipe.file import Recipe
    from pipelines.registry import Registry
    from pipelines.result import Result
    from pipelines.retraining.steps import Retrained, retrain
    from pipelines.run import Run
    from pipelines.saved_model import export
    from pipelines.simulation.simulate import Plan, simulate
    from pipelines.store_filling import fill_store
    from pipelines.training import train
    from pipelines.tuning.tune import tune

# Each where it is: an import of the package loads none of them.
_HOMES = {
    "ablation": (
        "ablate",
        "compare",
    ),
    "adaptation": ("adapt",),
    "answers": (
        "recommend",
        "score",
    ),
    "data.audit.audit": (
        "AuditReport",
        "audit",
    ),
    "data.dataset": ("Dataset",),
    "data.report": ("ImportReport",),
    "data.sources.mind": ("import_mind",),
    "data.sources.movielens": ("import_movielens",),
    "data.sources.newsroom.sizes": ("NewsroomSize",),
    "data.sources.newsroom.source": ("import_newsroom",),
    "data.sources.store": ("import_store",),
    "data.sources.table": ("import_table",),
    "embeddings": (
        "embed",
        "embed_users",
        "read_embeddings",
    ),
    "errors": (
        "BadInput",
        "Busy",
        "Stopped",
    ),
    "evaluation": ("evaluate",),
    "experiments": (
        "Conclusion",
        "conclude",
        "conclude_all",
    ),
    "exploration": ("explore",),
    "feeds": (
        "feed",
        "model_inputs",
    ),
    "folds": ("cross_validate",),
    "monitoring": (
        "MonitoredWindow",
        "RetrainCommand",
        "Watched",
        "monitor",
    ),
    "off_policy.estimate": (
        "Estimate",
        "estimate_off_policy",
    ),
    "presets": ("locate_preset",),
    "pretraining": ("pretrain",),
    "quantisation.quantise": ("quantise",),
    "recipe.file": ("Recipe",),
    "registry": ("Registry",),
    "result": ("Result",),
    "retraining.steps": (
        "Retrained",
        "retrain",
    ),
    "run": ("Run",),
    "saved_model": ("export",),
    "simulation.simulate": (
        "Plan",
        "simulate",
    ),
    "store_filling": ("fill_store",),
    "training": ("train",),
    "tuning.tune": ("tune",),
}
__all__ = [
    "AuditReport",
    "BadInput",
    "Busy",
    "Conclusion",
    "Dataset",
    "Estimate",
    "ImportReport",
    "MonitoredWindow",
    "NewsroomSize",
    "Plan",
    "Recipe",
    "Registry",
    "Result",
    "RetrainCommand",
    "Retrained",
    "Run",
    "Stopped",
    "Watched",
    "ablate",
    "adapt",
    "audit",
    "compare",
    "conclude",
    "conclude_all",
    "cross_validate",
    "embed",
    "embed_users",
    "estimate_off_policy",
    "evaluate",
    "explore",
    "export",
    "feed",
    "fill_store",
    "import_mind",
    "import_movielens",
    "import_newsroom",
    "import_store",
    "import_table",
    "locate_preset",
    "model_inputs",
    "monitor",
    "pretrain",
    "quantise",
    "read_embeddings",
    "recommend",
    "retrain",
    "score",
    "simulate",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
