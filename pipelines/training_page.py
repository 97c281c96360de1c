"""A training as a page: what came of it, its course by epoch, the data, and the recipe in full."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.artefacts import read_json
from pipelines.page import Html, badge, cards, element, folded, join, page, section, table
from pipelines.training_course import chosen_by, course, ensemble_section, overfitting, schedule, second_stage

_TOWERS = "towers"


def read_course(path: Path) -> dict[str, list[dict[str, float]]]:
    """The rows of a run's history.csv by fit, each with what is known of an epoch."""
    fits: dict[str, list[dict[str, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            known = {name: float(value) for name, value in row.items() if name != "fit" and value}
            fits.setdefault(row["fit"], []).append(known)
    return fits


def training_page_of(run: Path, name: str) -> str:
    """The page of a run folder that has its metrics, origin, recipe and history."""
    from pipelines.run import HISTORY, METRICS, ORIGIN, RECIPE

    return training_page(
        {
            "run": name,
            "metrics": read_json(run / METRICS),
            "origin": read_json(run / ORIGIN),
            "recipe": (run / RECIPE).read_text(encoding="utf-8"),
            "history": read_course(run / HISTORY),
        }
    )


def training_page(about: dict[str, Any]) -> str:
    """One HTML document, complete in itself.

    Args:
        about: `run` (its name), `metrics` (metrics.json), `origin` (origin.json), `recipe` (the text of recipe.yaml)
            and `history` (of `read_course`).
    """
    metrics, origin, history = about["metrics"], about["origin"], about["history"]
    recipe = yaml.safe_load(about["recipe"])
    sections = [_result(metrics, history), course(metrics, recipe, history.get(_TOWERS, []))]
    if stages := schedule(recipe):
        sections.append(stages)
    if "ranking" in metrics:
        sections.append(second_stage(metrics["ranking"]))
    if "ensemble" in metrics:
        sections.append(ensemble_section(metrics["ensemble"]))
    if "self_training" in metrics:
        sections.append(_self_training(metrics["self_training"]))
    sections += [_data(metrics, origin), _whole(about, recipe)]
    chosen = chosen_by(metrics)
    lead = f"Trained on {origin['dataset_name']}, seed {recipe['training']['seed']}" + (
        f"; the epoch is chosen by {chosen} of the validation part." if chosen else "; without a validation part."
    )
    return page(f"Training of {about['run']}", lead, sections)


def _result(metrics: dict[str, Any], history: Mapping[str, Sequence[Mapping[str, float]]]) -> Html:
    figures: list[tuple[str, object]] = []
    told: list[Html] = []
    best, epochs = metrics["best_epoch"], metrics["epochs"]
    if metrics["validation"]:
        scores, metric = metrics["validation"]["by_epoch"], chosen_by(metrics)
        gain = scores[best] - scores[0]
        word, tone = ("learned", "good") if best else ("nothing learned", "warning")
        text = (
            f" Epoch {best} of {epochs} is kept: validation {metric} {scores[best]:.4f}, {gain:+.4f} over the weights "
            "that it began with."
            if best
            else f" No epoch was better than the weights that it began with, validation {metric} {scores[0]:.4f}: "
            "these are kept."
        )
        told.append(element("p", badge(word, tone), text))
        figures += [(f"validation {metric}", f"{scores[best]:.4f}"), ("before training", f"{scores[0]:.4f}")]
    ranking = metrics.get("ranking")
    if ranking and ranking["validation"]:
        kept = ranking["validation"]["by_epoch"][ranking["best_epoch"]]
        figures.append((f"{chosen_by(ranking)} with second stage", f"{kept:.4f}"))
    words, tone = overfitting(metrics)
    told.append(element("p", badge("overfitting" if tone == "warning" else "course", tone), f" {words}"))
    seconds = sum(row.get("seconds", 0.0) for rows in history.values() for row in rows)
    figures += [("best epoch", f"{best} of {epochs}"), ("time of epochs", _time(seconds))]
    figures.append(("training examples", f"{metrics['examples']:,}"))
    figures += [(name, f"{count:,}") for name, count in _counts(metrics).items()]
    return section("Result", *told, cards(figures))


def _counts(metrics: dict[str, Any]) -> dict[str, int]:
    sizes, weights = metrics.get("data", {}), metrics.get("weights", {})
    found = {name: sizes[name] for name in ("items", "users") if name in sizes}
    return found | {f"weights, {name}": count for name, count in weights.items()}


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _self_training(said: dict[str, Any]) -> Html:
    rows = [
        [
            str(number),
            each["unlabelled_requests"],
            each["pseudo_labels"],
            each.get("expected_precision"),
            each.get("teacher"),
            each.get("student"),
            each.get("kept"),
        ]
        for number, each in enumerate(said["rounds"], start=1)
    ]
    heads = ["round", "unlabelled requests", "pseudo-labels", "precision to expect", "teacher", "student", "kept"]
    text = f"The {said['kept']} is kept, by validation {said['metric']}."
    return section("Self-training", element("p", text), table(heads, rows, wide=True))


def _data(metrics: dict[str, Any], origin: dict[str, Any]) -> Html:
    sizes = metrics.get("data", {})
    parts: list[Html] = []
    if sizes:
        rows = [
            [part, *(counts[unit] for unit in ("requests", "positives"))]
            for part, counts in sizes["parts"].items()
            if any(counts.values())
        ]
        parts.append(table(["part", "requests", "positives"], rows, caption="Split"))
    facts: list[tuple[str, object]] = [
        ("from", str(origin["first_at"])[:10]),
        ("to", str(origin["last_at"])[:10]),
    ]
    facts += [(name, f"{sizes[name]:,}") for name in ("items", "users", "languages", "categories") if name in sizes]
    unknown = metrics["positives_of_unknown_items"]
    facts.append(("positives of unknown items, left out", f"{unknown:,}"))
    parts.append(table(["dataset", origin["dataset_name"]], facts, caption="Dataset"))
    for name in ("warm_start", "balance", "augmentation"):
        if metrics.get(name):
            found = _flat(metrics[name])
            parts.append(table(["what", "value"], found.items(), caption=name.replace("_", " ").capitalize()))
    return section("Data", *parts)


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in values.items():
        label = f"{before}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            found |= _flat(value, f"{label}, ")
        else:
            found[label] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return found


def _whole(about: dict[str, Any], recipe: dict[str, Any]) -> Html:
    origin = about["origin"]
    on = [name for name in recipe if recipe[name] not in (None, {}, [])]
    versions = table(["package", "version"], sorted(origin["versions"].items()), caption=origin["platform"])
    marks = [(name.replace("_", " "), origin[name]) for name in ("data", "recipe", "warm_start") if origin.get(name)]
    return section(
        "Recipe and versions",
        element("p", "Sections: " + ", ".join(on) + "."),
        folded("The whole recipe, recipe.yaml", about["recipe"]),
        element(
            "details",
            element("summary", "Versions and fingerprints"),
            join([versions, table(["of", "fingerprint"], marks)]),
        ),
    )
