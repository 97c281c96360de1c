"""What the packages promise: the names, that each is typed and explained, and that an import is instant."""

from __future__ import annotations

import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pipelines
import serving
import towers

# A name that goes, or comes, is a change of the promise: it is made here too.
PROMISED: dict[ModuleType, list[str]] = {
    pipelines: [
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
    ],
    towers: [
        "AttentionPooling",
        "BehaviourTower",
        "CausalConvolutions",
        "CausalTransformer",
        "ContentTower",
        "DomainHead",
        "EnsembleBehaviour",
        "EnsembleContent",
        "ExactIndex",
        "HistoryEncoder",
        "ImageEncoder",
        "ItemTable",
        "LayerwiseAdamW",
        "LinearHistory",
        "LinearItems",
        "MaskedLanguageModel",
        "RankingTower",
        "Recommender",
        "Recurrent",
        "ScannIndex",
        "TextEncoder",
        "TextTop",
        "TokenAttention",
        "TwoTower",
        "WeightedMean",
        "gradient_reversal",
        "history_encoder",
        "layer_factors",
        "limit_threads",
        "seed_everything",
    ],
    serving: [
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
    ],
}
# Their many fields are explained one by one, where they stand.
BY_FIELD = {"Fingerprint", "Options", "Settings"}
NAMES = [(package, name) for package, names in PROMISED.items() for name in names]


def ids(value: Any) -> str | None:
    return value.__name__ if isinstance(value, ModuleType) else None


@pytest.mark.parametrize("package", PROMISED, ids=ids)
def test_the_names_are_those_promised(package: ModuleType) -> None:
    assert package.__all__ == PROMISED[package]
    assert set(package.__all__) <= set(dir(package))
    assert not [name for name in package.__all__ if name.startswith("_")]
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # noqa: B018


@pytest.mark.parametrize("package", PROMISED, ids=ids)
def test_no_name_is_a_module_s(package: ModuleType) -> None:
    """An import of the module would take the name away."""
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(package.__all__)


@pytest.mark.parametrize("package", PROMISED, ids=ids)
def test_a_star_brings_every_name(package: ModuleType) -> None:
    found: dict[str, Any] = {}
    exec(f"from {package.__name__} import *", found)
    assert set(PROMISED[package]) <= set(found)


@pytest.mark.parametrize(("package", "name"), NAMES, ids=ids)
def test_a_name_is_explained(package: ModuleType, name: str) -> None:
    found = getattr(package, name)
    text = inspect.cleandoc(found.__doc__ or "")
    assert text, "no docstring"
    assert "Example:\n    >>> " in text, "no example"
    said = text.split("Example:\n")[0]
    unnamed = [each for each in parameters_of(found) if not re.search(rf"\b{re.escape(each)}\b", said)]
    assert not unnamed, "parameters that the docstring does not name"


@pytest.mark.parametrize(("package", "name"), NAMES, ids=ids)
def test_a_name_is_typed(package: ModuleType, name: str) -> None:
    found = getattr(package, name)
    for called in callables_of(found):
        signature = inspect.signature(called)
        bare = [each.name for each in signature.parameters.values() if each.annotation is each.empty]
        assert not [each for each in bare if each not in ("self", "cls")], called
        assert signature.return_annotation is not signature.empty or called is found, called


def callables_of(found: Any) -> list[Callable[..., Any]]:
    """A function, or the public methods that a class has of its own."""
    if not isinstance(found, type):
        return [found]
    own = [value for name, value in vars(found).items() if not name.startswith("_") or name == "__init__"]
    functions = [value.__func__ if isinstance(value, classmethod | staticmethod) else value for value in own]
    return [each for each in functions if inspect.isfunction(each) and each.__module__ == found.__module__]


def parameters_of(found: Any) -> list[str]:
    if isinstance(found, type) and (issubclass(found, Exception) or found.__name__ in BY_FIELD):
        return []
    return [name for name in inspect.signature(found).parameters if name not in ("args", "kwargs")]


def test_an_import_is_instant() -> None:
    """By what it imports, since time is the machine's: nothing that is not the standard library."""
    script = (
        "import sys; before = set(sys.modules); import pipelines, towers, serving; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    brought = set(done.stdout.split()) - set(sys.stdlib_module_names)
    assert brought == {"pipelines", "towers", "serving"}
