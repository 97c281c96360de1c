"""Quotes the tables in docs/measured.md, between the two comments: `python -m benchmarks.quality.quote`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.quality.run import RESULTS
from benchmarks.quality.tasks import DATA_SETS
from pipelines.artefacts import atomic_file, read_json

MEASURED = Path(__file__).parents[2] / "docs" / "measured.md"
_BEGIN, _END = "<!-- quality -->\n", "<!-- /quality -->"
_TITLES = {
    "mind": "MIND, impressions of the day after (`mind`)",
    "ml100k-last": "MovieLens 100K, each user's last rating, all films (`ml100k`)",
    "ml100k-random": "MovieLens 100K, a random quarter of each user's ratings, top 10 (`ml100k`)",
    "ibm": "Articles, one of each user's held out, all articles (`ibm`)",
    "ibm-new": "Articles that nobody has read yet, among themselves (`ibm`)",
    "globo": "A news portal's next click, all articles (`globo`)",
}
_PEERS = 4
_COLUMNS = 2


def quoted(task: dict[str, Any]) -> str:
    """Our recipes and the best peers of a task's first exam, in two metrics."""
    exam = next(iter(task["exams"].values()))
    metric = task["metric"]
    columns = [metric, *(column for column in task["columns"] if column != metric)][:_COLUMNS]
    ours = {each["method"] for each in task["methods"] if each["ours"]}
    ranked = sorted(exam["metrics"], key=lambda name: -exam["metrics"][name][metric]["mean"])
    peers = [name for name in ranked if name not in ours]
    kept = [name for name in ranked if name in ours or name in peers[:_PEERS] or name == "popularity"]
    count = exam["metrics"][ranked[0]][metric]["count"]
    lines = [
        f"**{_TITLES[task['task']]}**; {count:,} rows",
        "",
        "| | " + " | ".join(columns) + f" | lead, {metric} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for name in kept:
        cells = ["{mean:.4f} [{low:.3f}, {high:.3f}]".format(**exam["metrics"][name][column]) for column in columns]
        lead = exam["lead"].get(name, {}).get(metric)
        told = "" if lead is None else "{mean:+.4f} [{low:+.3f}, {high:+.3f}]".format(**lead)
        star = "" if lead is None or lead["low"] <= 0 <= lead["high"] else " *"
        lines.append("| " + " | ".join([f"**{name}**" if name in ours else name, *cells, told + star]) + " |")
    return "\n".join(lines) + "\n"


def main(document: Path = MEASURED, results: Path = RESULTS) -> None:
    tasks = {
        task["task"]: task
        for name in DATA_SETS
        if (results / f"quality-{name}.json").exists()
        for task in read_json(results / f"quality-{name}.json")["tasks"]
    }
    before, rest = document.read_text(encoding="utf-8").split(_BEGIN)
    after = rest[rest.index(_END) :]
    text = "\n".join(quoted(tasks[name]) for name in _TITLES if name in tasks)
    with atomic_file(document) as draft:
        draft.write_text(before + _BEGIN + text + after, encoding="utf-8")


if __name__ == "__main__":
    main()
