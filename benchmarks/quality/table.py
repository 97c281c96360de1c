"""The tables: means with 95 % bootstrap intervals, paired differences, seconds and memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import atomic_file, write_json
from pipelines.metrics import bootstrap

_SEED = 17


@dataclass(frozen=True)
class Outcome:
    """What came of one method on one task: what its process told, and its metrics by row; or why it did not run."""

    told: dict[str, Any]
    rows: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        return str(self.told["method"])

    @property
    def why_not(self) -> str | None:
        if "missing" in self.told:
            return f"{self.told['missing']} is not installed"
        if "left_out" in self.told:
            return "left out of this run"
        return self.told.get("failed")


def champion(outcomes: list[Outcome]) -> Outcome | None:
    """The recipe that `methods.py` names first for the task, of those that ran.

    Recipes choose their epochs on validation parts of their own, whose metrics cannot be compared.
    """
    return next((each for each in outcomes if each.told["ours"] and each.why_not is None), None)


def summary(task: Any, outcomes: list[Outcome]) -> dict[str, Any]:
    """Everything that is reported of a task, as JSON.

    `lead` is the task's first recipe minus the method on the same rows, with the interval of the paired bootstrap:
    where it holds 0, the two are not told apart.
    """
    best = champion(outcomes)
    ran = [each for each in outcomes if each.why_not is None]
    exams: dict[str, Any] = {}
    for exam in task.exams:
        metrics = {f"{each.name}\t{column}": each.rows[f"{exam}/{column}"] for each in ran for column in task.columns}
        lead = (
            {
                f"{each.name}\t{column}": best.rows[f"{exam}/{column}"] - each.rows[f"{exam}/{column}"]
                for each in ran
                if each is not best
                for column in task.columns
            }
            if best
            else {}
        )
        exams[exam] = {"metrics": _nested(metrics), "lead": _nested(lead)}
    return {
        "task": task.name,
        "about": task.about,
        "columns": list(task.columns),
        "metric": task.metric,
        "best_recipe": best.name if best else None,
        "exams": exams,
        "methods": [each.told | {"not_run": each.why_not} for each in outcomes],
    }


def _nested(values: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for key, estimate in bootstrap(values, seed=_SEED).items() if values else ():
        name, metric = key.split("\t")
        table.setdefault(name, {})[metric] = estimate.as_dict()
    return table


def markdown(summaries: list[dict[str, Any]]) -> str:
    """The tables as Markdown, best method first."""
    parts = []
    for found in summaries:
        parts.append(f"## {found['task']}\n\n{found['about']}\n")
        for exam, tables in found["exams"].items():
            parts.append(_table(found, exam, tables))
        parts.append(_costs(found))
    return "\n".join(parts)


def _table(found: dict[str, Any], exam: str, tables: dict[str, Any]) -> str:
    metric, columns, best = found["metric"], found["columns"], found["best_recipe"]
    order = sorted(tables["metrics"], key=lambda name: -tables["metrics"][name][metric]["mean"])
    if not order:
        return ""
    count = tables["metrics"][order[0]][metric]["count"]
    lines = [
        f"**{exam}**, {count:,} rows; mean and 95 % bootstrap interval"
        + (f"; the last column is {best} minus the method, paired" if best else ""),
        "",
        "| | " + " | ".join(columns) + f" | lead in {metric} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for name in order:
        cells = [_cell(tables["metrics"][name][column]) for column in columns]
        lead = _signed(tables["lead"][name][metric]) if name in tables["lead"] else ""
        ours = any(each["method"] == name and each["ours"] for each in found["methods"])
        lines.append("| " + " | ".join([f"**{name}**" if ours else name, *cells, lead]) + " |")
    return "\n".join(lines) + "\n"


def _costs(found: dict[str, Any]) -> str:
    lines = [
        "| | training | tuning | settings tried | peak memory | setting |",
        "|---|---|---|---|---|---|",
    ]
    for each in found["methods"]:
        if each["not_run"]:
            lines.append(f"| {each['method']} | not run: {each['not_run']} | | | | |")
            continue
        setting = ", ".join(f"{key} {value}" for key, value in each["setting"].items())
        lines.append(
            f"| {each['method']} | {each['training_seconds']:.1f} s | {each['tuning_seconds']:.0f} s "
            f"| {each['settings_tried']} | {each['peak_mib']:,.0f} MiB | {setting} |"
        )
    return "\n".join(lines) + "\n"


def _cell(value: dict[str, float]) -> str:
    return f"{value['mean']:.4f} [{value['low']:.3f}, {value['high']:.3f}]"


def _signed(value: dict[str, float]) -> str:
    mark = "" if value["low"] <= 0 <= value["high"] else " \\*"
    return f"{value['mean']:+.4f} [{value['low']:+.3f}, {value['high']:+.3f}]{mark}"


def write(folder: Path, name: str, summaries: list[dict[str, Any]]) -> Path:
    """Write quality-`name`.md and .json; returns the first."""
    write_json(folder / f"quality-{name}.json", {"tasks": summaries})
    path = folder / f"quality-{name}.md"
    text = (
        f"# {name}\n\n"
        f"Written by `python -m benchmarks.quality {name}`. An asterisk marks a difference whose interval does "
        "not hold 0. Training is one fit with the setting chosen on validation, text vectors of the frozen encoder "
        "computed before; peak memory is of the whole process, data, tuning and judging included.\n\n"
    )
    with atomic_file(path) as draft:
        draft.write_text(text + markdown(summaries), encoding="utf-8")
    return path
