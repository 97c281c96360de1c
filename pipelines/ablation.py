"""What each step of a recipe is worth: trained as it is, and once without each."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.ablation_page import ablation_page, added_by, cell, signed
from pipelines.artefacts import atomic_folder, check_folder, write_json
from pipelines.data.dataset import Dataset
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.judge import CatalogueTargets, Slates
from pipelines.metrics import bootstrap
from pipelines.prepare import Prepared, prepare
from pipelines.progress import say, track
from pipelines.rankers import FixedOrder
from pipelines.ranking import resolve_ranking
from pipelines.recipe import Recipe
from pipelines.result import Result
from pipelines.training import train_prepared

REPORT, PAGE = "ablation.json", "ablation.html"
FILES = (REPORT, PAGE)
WHOLE = "as it is"
# Queries against the catalogue, at most.
_QUERIES = 10_000
# What can be switched off, and what a recipe without it has there.
STEPS: dict[str, Any] = {
    "balance.weights": 0.0,
    "balance.upsample": None,
    "balance.synthetic": None,
    "balance.simulated": None,
    "augmentation.history.crop": 0.0,
    "augmentation.history.mask": 0.0,
    "augmentation.history.substitute": 0.0,
    "augmentation.history.reorder": 0.0,
    "augmentation.text": None,
    "self_training": None,
    "ranking": None,
    "ensemble": None,
    "adaptation": None,
}


def ablate(recipe: Recipe, dataset: Dataset, out: Path | str, *, without: Sequence[str] = (), seeds: int = 1) -> Result:
    """Train a recipe as it is and once without each step, judge all on the same rows, and write what each is worth.

    The test part judges, or where there is none, the validation part, which has also chosen the epochs. `refit` is left
    out. Of several seeds, a row's metric is the mean over them; the intervals are over rows, and say nothing of how
    training again with another seed would come out (`by_seed` does). They are not corrected for the number of steps: of
    twenty that do nothing, one looks like a gain or a loss.

    Args:
        recipe: As it is.
        dataset: Trained and judged on.
        out: The folder to make, with the report; one that this made before is replaced.
        without: Names of `STEPS`; all that are on by default.
        seeds: Trainings of each, with the recipe's seed and those that follow it, on one split.

    Raises:
        BadInput: A step is not known or not on, nothing is there to judge on, or `out` is somebody's folder.

    Example:
        >>> from pipelines import Dataset, Run, ablate
        >>> recipe = Run.open("run").recipe.changed({"augmentation": {"history": {"mask": 0.3}}})
        >>> result = ablate(recipe, Dataset.open("data"), "ablation")  # doctest: +SKIP
        >>> sorted({row["variant"] for row in result.rows()})  # doctest: +SKIP
        ['as it is', 'augmentation.history.mask']
    """
    out = Path(out)
    check_folder(out, replaces=FILES)
    steps = list(dict.fromkeys(without)) or steps_of(recipe)
    variants = {WHOLE: recipe, **{step: switched_off(recipe, step) for step in steps}}
    if not steps:
        raise BadInput(f"the recipe has nothing to switch off (there are {', '.join(STEPS)}).")
    with atomic_folder(out, replaces=FILES) as draft:
        result = compare(variants, dataset, seeds=seeds)
        write_json(draft / REPORT, result)
        (draft / PAGE).write_text(ablation_page(result), encoding="utf-8")
    return result


def steps_of(recipe: Recipe) -> list[str]:
    """The steps that are on, in the order of `STEPS`."""
    return [step for step, off in STEPS.items() if _is_on(recipe, step, off)]


def _is_on(recipe: Recipe, step: str, off: Any) -> bool:
    found: Any = recipe
    for name in step.split("."):
        found = getattr(found, name, None)
    return recipe.adapts if step == "adaptation" else found not in (None, off)


def switched_off(recipe: Recipe, step: str) -> Recipe:
    """The recipe without a step.

    Raises:
        BadInput: The step is not known, or is off.
    """
    if step not in STEPS:
        raise BadInput(f"--without {step}: no such step (there are {', '.join(STEPS)}).")
    if not _is_on(recipe, step, STEPS[step]):
        on = ", ".join(steps_of(recipe)) or "nothing"
        raise BadInput(f"--without {step}: the recipe does not have it switched on (it has {on}).")
    values = recipe.model_dump()
    *path, last = step.split(".")
    inside = values
    for name in path:
        inside = inside[name]
    inside[last] = STEPS[step]
    return Recipe.model_validate(values)


def compare(variants: Mapping[str, Recipe], dataset: Dataset, *, seeds: int = 1, gains: bool = False) -> Result:
    """Train recipes of one split and judge them on the same rows; the first is what the others are compared with.

    Args:
        variants: By name. They differ in their steps alone.
        seeds: Trainings of each.
        gains: Whether the others have a step that the first has not, instead of lacking one that it has.
        dataset: Trained and judged on.

    Raises:
        BadInput: Nothing is there to judge on.

    Example:
        >>> from pipelines import Dataset, Run, compare
        >>> recipe = Run.open("run").recipe.changed({"training.epochs": 1})
        >>> encoders = {name: recipe.changed({"towers.history_encoder": name}) for name in ("mean", "attention")}
        >>> result = compare(encoders, Dataset.open("data"), gains=True)  # print(result) shows the table
        >>> [row["variant"] for row in result.rows() if row["metric"] == result["metric"]]
        ['mean', 'attention']
    """
    first = next(iter(variants))
    seed = variants[first].training.seed
    values: dict[str, list[dict[str, np.ndarray]]] = {}
    about: dict[str, dict[str, Any]] = {}
    judge, part, metric, name_of_data = None, Part.TEST, "", ""
    for name, recipe in track(variants.items(), "variants", len(variants)):
        trained_once = recipe.training.model_copy(update={"refit": False})
        recipe = recipe.model_copy(update={"training": trained_once})
        data = prepare(dataset, recipe)
        recipe = resolve_ranking(recipe, data)
        if judge is None:
            judge, part = _judge(data, seed)
            metric, name_of_data = "auc" if data.on_requests else "ndcg@10", data.name
        about[name], values[name] = {"best_epoch": []}, []
        for more in range(seeds):
            said = name if name == first or gains else f"without {name}"
            say(f"training {said}" + (f", seed {seed + more}" if seeds > 1 else ""))
            seeded = trained_once.model_copy(update={"seed": seed + more})
            each = recipe.model_copy(update={"training": seeded})
            with tempfile.TemporaryDirectory() as scratch:
                trained = train_prepared(each, data, Path(scratch))
            values[name].append(judge.metrics(trained.ranker(each, data)))
            about[name]["best_epoch"].append(trained.metrics["best_epoch"])
            about[name] |= {key: trained.metrics[key] for key in ("balance", "augmentation") if key in trained.metrics}
    means = {
        name: {key: np.mean([run[key] for run in runs], axis=0) for key in runs[0]} for name, runs in values.items()
    }
    sign = -1 if gains else 1
    worth = {
        name: {key: sign * (means[first][key] - column) for key, column in columns.items()}
        for name, columns in means.items()
        if name != first
    }
    result: dict[str, Any] = {
        "dataset": name_of_data,
        "metric": metric,
        "part": part.name.lower(),
        "compared_with": first,
        "gains": gains,
        "seeds": seeds,
        "variants": {
            name: about[name]
            | {
                "metrics": _estimates(columns, seed),
                "by_seed": [float(np.nanmean(run[metric])) for run in values[name]],
            }
            for name, columns in means.items()
        },
    }
    for name, columns in worth.items():
        result["variants"][name]["worth"] = _estimates(columns, seed)
    result["verdict"] = {name: _verdict(result, name) for name in worth}
    return Result(result, table_lines, table_rows)


def _judge(data: Prepared, seed: int) -> tuple[Slates | CatalogueTargets, Part]:
    """Of the test part, or else of the validation part."""
    anything = FixedOrder("nothing", np.zeros(len(data.catalogue)))
    for part in (Part.TEST, Part.VALIDATION):
        if data.on_requests:
            slates = Slates.of(data.behaviour, data.parts.requests == part, known_only=True)
            if len(slates.queries) and np.isfinite(slates.metrics(anything)["auc"]).any():
                return slates, part
        else:
            chosen = data.parts.interactions == part
            targets = CatalogueTargets.of(data.behaviour, data.catalogue, chosen, most=_QUERIES, seed=seed)
            if len(targets.queries):
                return targets, part
    raise BadInput(f"{data.name} has neither a test nor a validation part to judge on: change data.split.")


def _estimates(columns: Mapping[str, np.ndarray], seed: int) -> dict[str, dict[str, float | int]]:
    return {name: estimate.as_dict() for name, estimate in bootstrap(columns, seed=seed).items()}


def _verdict(result: dict[str, Any], name: str) -> str:
    """A gain or a loss only where the interval of the difference does not hold 0."""
    lead = result["variants"][name]["worth"][result["metric"]]
    what = "a gain" if lead["low"] > 0 else "a loss" if lead["high"] < 0 else "no measurable difference"
    found = f"{name}: {what}, {signed(lead)} {result['metric']}"
    with_it = result["variants"][name if result["gains"] else result["compared_with"]]
    if added_by(with_it, name) == "0":
        found += "; it added nothing"
    both = [result["variants"][each]["best_epoch"] for each in (name, result["compared_with"])]
    if not any(map(any, both)):
        found += "; validation kept the untrained towers both times, so nothing of their training shows"
    return found


def table_lines(result: dict[str, Any]) -> list[str]:
    """The report as aligned plain text."""
    metric, variants, first = result["metric"], result["variants"], result["compared_with"]
    count = variants[first]["metrics"][metric]["count"]
    seeds = f", mean of {result['seeds']} seeds" if result["seeds"] > 1 else ""
    lines = [
        f"{result['dataset']}: {metric} of the {result['part']} part (mean [95 % interval] over {count:,}{seeds}), and "
        + ("what each step gains" if result["gains"] else "what the recipe has more than without the step")
    ]
    wide = max(map(len, variants)) + (0 if result["gains"] else 8)
    for name, about in variants.items():
        said = name if name == first or result["gains"] else f"without {name}"
        worth = signed(about["worth"][metric]) if "worth" in about else ""
        added = added_by(variants[name if result["gains"] else first], name) if "worth" in about else ""
        lines.append(f"  {said:{wide}} {cell(about['metrics'][metric]):26} {worth:26} {added}".rstrip())
    return [*lines, "", *result["verdict"].values()]


def table_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each variant and metric; `worth_mean` and so on are the difference from the first variant."""
    return [
        {"variant": name, "metric": metric}
        | value
        | {f"worth_{key}": about.get("worth", {}).get(metric, {}).get(key) for key in ("mean", "low", "high")}
        for name, about in result["variants"].items()
        for metric, value in about["metrics"].items()
    ]
