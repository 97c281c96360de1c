"""What adaptation is worth on a domain without clicks: the same recipe without it, adversarial and multi-task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import atomic_folder, check_folder, write_json
from pipelines.data.dataset import Dataset
from pipelines.data.domains import DomainItems, domain_values
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.held_out import clicks_among, hold_out
from pipelines.judge import CatalogueTargets, Slates
from pipelines.metrics import bootstrap
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared, prepare
from pipelines.progress import say, track
from pipelines.rankers import FixedOrder
from pipelines.recipe import Adaptation, Recipe
from pipelines.result import Result
from pipelines.training import train_prepared

REPORT = "report.json"
_METHODS = ("without", "adversarial", "multi_task")


def adapt(recipe: Recipe, dataset: Dataset, out: Path | str, *, domain: str, held_out: str) -> Result:
    """Train a recipe three times with no click on the held-out domain, and judge each on the test part's clicks there.

    The epoch is chosen by the validation part, in which the held-out domain is not: nobody has its labels. The two
    towers are judged; a second stage, an ensemble, self-training and `refit` are left out. Adversarial training sets
    the held-out domain against all others, unless the recipe's `adaptation` names another target; multi-task training
    tells every value. Slates are judged where there are any (the first metric is AUC), else the catalogue (nDCG@10).

    Raises:
        BadInput: The domain is not there, or has no click in the test part to be judged on; or `out` is somebody's.

    Args:
        recipe: As it is trained without adaptation; its `adaptation` says how with.
        dataset: Trained and judged on.
        out: The folder to make, with the report.
        domain: "language" or "category".
        held_out: The value whose clicks nobody is told.

    Example:
        >>> from pipelines import Dataset, Run, adapt
        >>> recipe, data = Run.open("run").recipe, Dataset.open("data")
        >>> result = adapt(recipe, data, "adapted", domain="language", held_out="de")  # doctest: +SKIP
        >>> sorted(result["best_epoch"])  # doctest: +SKIP
        ['adversarial', 'multi_task', 'without']
    """
    out = Path(out)
    check_folder(out, replaces=(REPORT,))
    settings = (recipe.adaptation or Adaptation()).model_copy(update={"domain": domain})
    others = ("ranking", "ensemble", "self_training")
    left_out = [name for name in others if getattr(recipe, name) is not None]
    if left_out:
        say(f"left out, since the towers alone are compared: {', '.join(left_out)}")
    training = recipe.training.model_copy(update={"refit": False})
    plain = recipe.model_copy(update={**dict.fromkeys(others), "adaptation": None, "training": training})
    target = settings.target or held_out
    data = prepare(dataset, plain)
    DomainItems.of(data.catalogue, settings.model_copy(update={"target": held_out}))
    held = np.r_[False, domain_values(data.catalogue, domain) == held_out]
    data = hold_out(data, held)
    judges = _judges(data, held)
    if "held_out" not in judges:
        raise BadInput(f"the test part has no click to judge {domain} {held_out!r} on: change data.split.")
    values: dict[str, dict[str, dict[str, np.ndarray]]] = {name: {} for name in judges}
    with atomic_folder(out, replaces=(REPORT,)) as draft:
        epochs = {}
        for method in track(_METHODS, "trainings", len(_METHODS)):
            say(f"training: {method}")
            aims = {"adversarial": target, "multi_task": None}
            chosen = (
                None if method == "without" else settings.model_copy(update={"method": method, "target": aims[method]})
            )
            trained = train_prepared(plain.model_copy(update={"adaptation": chosen}), data, draft.parent)
            epochs[method] = trained.metrics["best_epoch"]
            ranker = ModelRanker(trained.model, data.window)
            for name, judge in judges.items():
                values[name][method] = judge.metrics(ranker)
        result = {
            "dataset": data.name,
            "domain": domain,
            "held_out_value": held_out,
            "items": int(held.sum()),
            "adaptation": settings.model_dump(),
            "metric": "auc" if data.on_requests else "ndcg@10",
            "best_epoch": epochs,
            **{name: _compared(values[name], recipe.training.seed) for name in judges},
        }
        result["verdict"] = _verdicts(result)
        write_json(draft / REPORT, result)
    return Result(result, table_lines, table_rows)


def _judges(data: Prepared, held: np.ndarray) -> dict[str, Slates | CatalogueTargets]:
    """Those that have something to judge."""
    found: dict[str, Slates | CatalogueTargets] = {}
    for name, wanted in (("held_out", held), ("others", ~held)):
        if data.on_requests:
            slates = Slates.of(data.behaviour, data.parts.requests == Part.TEST, known_only=True)
            among = clicks_among(slates, wanted)
            anything = FixedOrder("nothing", np.zeros(len(data.catalogue)))
            if np.isfinite(among.metrics(anything)["auc"]).any():
                found[name] = among
        else:
            log = data.behaviour.interactions
            chosen = (data.parts.interactions == Part.TEST) & wanted[log.item]
            targets = CatalogueTargets.of(data.behaviour, data.catalogue, chosen)
            if len(targets.queries):
                found[name] = targets
    return found


def _compared(values: dict[str, dict[str, np.ndarray]], seed: int) -> dict[str, Any]:
    """Estimates by method and metric, and each method's lead over the model without, on the same rows."""
    flat = {(method, metric): column for method, columns in values.items() for metric, column in columns.items()}
    lead = {key: column - values["without"][key[1]] for key, column in flat.items() if key[0] != "without"}
    return {"metrics": _nested(flat, seed), "difference": _nested(lead, seed)}


def _nested(columns: dict[tuple[str, str], np.ndarray], seed: int) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    estimates = bootstrap({"\t".join(key): column for key, column in columns.items()}, seed=seed)
    for key, estimate in estimates.items():
        method, metric = key.split("\t")
        table.setdefault(method, {})[metric] = estimate.as_dict()
    return table


def _verdicts(result: dict[str, Any]) -> dict[str, str]:
    """One sentence a method: a gain only where the interval of the difference is above 0."""
    found = {}
    for method, metrics in result["held_out"]["difference"].items():
        lead = metrics[result["metric"]]
        what = "a gain" if lead["low"] > 0 else "a loss" if lead["high"] < 0 else "no measurable difference"
        found[method] = f"{method}: {what} on {result['held_out_value']}, {_signed(lead)} {result['metric']}"
        if result["best_epoch"][method] == 0:
            found[method] += "; validation kept the untrained weights, so this is not adaptation's doing"
    return found


def table_lines(result: dict[str, Any]) -> list[str]:
    """The report as aligned plain text."""
    metric = result["metric"]
    lines = [f"{result['dataset']}: {result['domain']} {result['held_out_value']} held out ({result['items']:,} items)"]
    for part, title in (("held_out", "clicks on the held-out domain"), ("others", "clicks on the others")):
        if part not in result:
            continue
        metrics, difference = result[part]["metrics"], result[part]["difference"]
        count = metrics["without"][metric]["count"]
        lines += ["", f"{title}: {metric} (mean [95 % interval] over {count:,}), and less the model without"]
        for method, values in metrics.items():
            value = values[metric]
            cell = f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
            lead = _signed(difference[method][metric]) if method in difference else ""
            lines.append(f"  {method:12} {cell:28} {lead}".rstrip())
    return [*lines, "", *result["verdict"].values()]


def table_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each part, method and metric, with the lead over the model without where there is one."""
    rows = []
    for part in (each for each in ("held_out", "others") if each in result):
        for method, metrics in result[part]["metrics"].items():
            for metric, value in metrics.items():
                lead = result[part]["difference"].get(method, {}).get(metric, {})
                more = {f"lead_{key}": lead.get(key) for key in ("mean", "low", "high")}
                rows.append({"part": part, "method": method, "metric": metric} | value | more)
    return rows


def _signed(value: dict[str, float]) -> str:
    return f"{value['mean']:+.4f} [{value['low']:+.4f}, {value['high']:+.4f}]"
