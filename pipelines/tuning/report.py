"""A search as a table, a page, a CSV file and a header of the best recipe."""

from __future__ import annotations

import csv
import io
from typing import Any

from pipelines.page import Html, Line, badge, cards, element, figure, join, lines, page, points, section, table
from pipelines.tuning.journal import Journal, Trial
from pipelines.tuning.space import Space, short

TABLE, PAGE = "trials.csv", "report.html"
_CURVES = 5


def result_of(journal: Journal, space: Space, dataset: str, *, asked: int, complete: bool) -> dict[str, Any]:
    """What `belfry tune` tells; there is a completed trial.

    `better` says whether the best trial's score is above that of the recipe as it was; where it is not, that recipe is
    the one to train.
    """
    best, default = journal.completed[0], journal.baseline
    return {
        "dataset": dataset,
        "algorithm": journal.algorithm,
        "seed": journal.seed,
        "metric": journal.metric,
        "asked": asked,
        "completed": journal.count("completed"),
        "failed": journal.count("failed"),
        "complete": complete,
        "space": {path: _range(values) for path, values in space.keys.items()},
        "default": default.model_dump(mode="json"),
        "best": best.model_dump(mode="json"),
        "better": best.value > default.value,
        "trials": [trial.model_dump(mode="json") for trial in journal.trials],
    }


def _range(values: Any) -> Any:
    return values if isinstance(values, list) else values.model_dump()


def table_lines(result: dict[str, Any], most: int = 20) -> list[str]:
    """The result as aligned plain text, best trials first."""
    trials = [Trial.model_validate(each) for each in result["trials"]]
    done = sorted((trial for trial in trials if trial.score is not None), key=lambda trial: -trial.value)
    metric, default = result["metric"], result["default"]["score"]
    rows = [f"  {'trial':>7}  {metric:10}{'lead over the recipe as it is':32}values"]
    rows.append(f"  {'as it is':>7} {default:<10.4f}")
    for trial in done[:most]:
        rows.append(f"  {trial.number + 1:>7}  {trial.value:<10.4f}{_lead(trial):32}{_values(trial)}")
    if len(done) > most:
        rows.append(f"  and {len(done) - most} more, in {TABLE}")
    rows += [f"  {trial.number + 1:>7}  failed: {trial.message[:140]}" for trial in trials if trial.status == "failed"]
    return [*rows, "", f"{_counted(result)}; {_verdict(result)}"]


def table_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each trial, the recipe as it is first (trial 0), whose values and leads are None.

    Status, score, best epoch and how many were trained, seconds, the lead over the recipe as it is, values by key.
    """
    paths = result["space"]
    return [
        {"trial": trial.number + 1, "status": trial.status, "score": trial.score, "best_epoch": trial.best_epoch}
        | {"epochs": len(trial.by_epoch) - 1 if trial.by_epoch else None, "seconds": trial.seconds}
        | dict(zip(("lead_mean", "lead_low", "lead_high"), trial.lead or (None,) * 3, strict=True))
        | {path: trial.values.get(path) for path in paths}
        for trial in map(Trial.model_validate, [result["default"], *result["trials"]])
    ]


def _counted(result: dict[str, Any]) -> str:
    text = f"{result['completed']} of {result['asked']} trials completed, {result['failed']} failed"
    if not result["complete"]:
        return f"{text}, the time is over (--resume goes on)"
    tried = result["completed"] + result["failed"]
    return text if tried >= result["asked"] else f"{text}, and the space has no more"


def _verdict(result: dict[str, Any]) -> str:
    if not result["better"]:
        return f"none is better than the recipe as it is ({result['metric']} {result['default']['score']:.4f})"
    best = Trial.model_validate(result["best"])
    return (
        f"trial {best.number + 1} is the best: {result['metric']} {result['default']['score']:.4f} to {best.score:.4f}"
    )


def _lead(trial: Trial) -> str:
    if trial.lead is None:
        return ""
    mean, low, high = trial.lead
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def _values(trial: Trial) -> str:
    text = ", ".join(f"{path.split('.')[-1]} {short(value)}" for path, value in trial.values.items())
    return text + (f" ({trial.epochs} epochs)" if trial.epochs is not None else "")


def told(result: dict[str, Any]) -> str:
    """The header of the recipe that was found."""
    return (
        f"# Found by belfry tune ({result['algorithm']}, seed {result['seed']}) on {result['dataset']}: "
        f"{_counted(result)};\n# {_verdict(result)}, on the rows that chose it.\n"
    )


def table_of(journal: Journal, space: Space) -> str:
    """Every trial as a row of CSV, the recipe as it was being trial 0."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    paths = list(space.keys)
    writer.writerow(["trial", "status", journal.metric, "best_epoch", "epochs", "seconds", *paths, "message"])
    for trial in [journal.baseline, *journal.trials]:
        values = [short(trial.values[path]) if path in trial.values else "" for path in paths]
        known = [trial.score, trial.best_epoch, trial.epochs, round(trial.seconds, 1)]
        writer.writerow(
            [trial.number + 1, trial.status, *("" if each is None else each for each in known), *values, trial.message]
        )
    return text.getvalue()


def page_of(result: dict[str, Any], journal: Journal, space: Space) -> str:
    """The search as one HTML document, complete in itself."""
    figures: list[tuple[str, object]] = [
        ("as it is", f"{result['default']['score']:.4f}"),
        ("best", f"{result['best']['score']:.4f}"),
        ("completed", f"{result['completed']} of {result['asked']}"),
        ("failed", result["failed"]),
        ("minutes of trials", f"{sum(trial.seconds for trial in journal.trials) / 60:.1f}"),
    ]
    verdict = badge("better", "good") if result["better"] else badge("no better", "warning")
    note = element(
        "p",
        "Leads are over the recipe as it is, on the same rows, with 95 % bootstrap intervals. The best of many trials"
        " looks better on the rows that chose it than it is: train it, and judge it on the test part.",
        class_="note",
    )
    return page(
        f"Search on {result['dataset']}",
        f"{result['algorithm']}, seed {result['seed']}, by {result['metric']} of the validation part.",
        [
            section("Result", element("p", verdict, f" {_verdict(result)}; {_counted(result)}."), cards(figures), note),
            section("Course", element("div", *_course(journal), class_="charts")),
            section("What was tried", element("div", *_by_value(journal, space), class_="charts")),
            _trials(journal, space),
        ],
    )


def _course(journal: Journal) -> list[Html]:
    """Scores in the order of the trials, and the curves of the best."""
    done = [trial for trial in journal.trials if trial.score is not None]
    names = [str(trial.number + 1) for trial in done]
    scores = [trial.value for trial in done]
    best = [max(scores[: place + 1]) for place in range(len(scores))]
    drawn = [Line("trial", scores), Line("best so far", best), Line("as it is", [journal.baseline.value] * len(scores))]
    found = [
        figure(
            f"{journal.metric} by trial",
            lines(f"{journal.metric} by trial", names, drawn, from_zero=False),
            table(["trial", journal.metric, "best so far"], zip(names, scores, best, strict=True)),
        )
    ]
    top = [journal.baseline, *journal.completed[:_CURVES]]
    epochs = max(len(trial.by_epoch) for trial in top)
    curves = [
        Line(
            "as it is" if trial.number < 0 else f"trial {trial.number + 1}",
            [*trial.by_epoch, *[None] * (epochs - len(trial.by_epoch))],
        )
        for trial in top[:_CURVES]
    ]
    labels = [str(epoch) for epoch in range(epochs)]
    title = f"{journal.metric} of the towers by epoch"
    return [*found, figure(title, lines(title, labels, curves, from_zero=False))]


def _by_value(journal: Journal, space: Space) -> list[Html]:
    """A chart for each key: its value across, the score up."""
    done = [trial for trial in journal.trials if trial.score is not None]
    found = []
    for path, among in space.keys.items():
        known = [trial for trial in done if path in trial.values]
        if not known:
            continue
        across = [trial.values[path] for trial in known]
        scores = [trial.value for trial in known]
        names = [str(trial.number + 1) for trial in known]
        logarithmic = not isinstance(among, list) and among.scale == "log"
        numbers = None if isinstance(among, list) else [float(value) for value in across]
        labels = [short(value) for value in among] if isinstance(among, list) else []
        chart = points(
            f"{journal.metric} by {path}",
            numbers if numbers is not None else [float(labels.index(short(value))) for value in across],
            scores,
            labels=labels,
            logarithmic=logarithmic,
        )
        rows = zip(names, map(short, across), scores, strict=True)
        found.append(figure(path, chart, table(["trial", path, journal.metric], rows)))
    return found


def _trials(journal: Journal, space: Space) -> Html:
    heads = ["trial", "state", journal.metric, "lead", "best epoch", "seconds", *(path for path in space.keys)]
    tones = {"completed": "good", "failed": "error", "running": "plain"}
    rows = [
        [
            "as it is" if trial.number < 0 else str(trial.number + 1),
            badge(trial.status, tones[trial.status]),
            None if trial.score is None else f"{trial.score:.4f}",
            _lead(trial) or None,
            trial.best_epoch,
            f"{trial.seconds:.0f}",
            *(short(trial.values[path]) if path in trial.values else None for path in space.keys),
        ]
        for trial in [journal.baseline, *journal.completed, *(t for t in journal.trials if t.score is None)]
    ]
    parts = [table(heads, rows, caption="Trials, the best first", wide=True)]
    failed = [(str(trial.number + 1), trial.message) for trial in journal.trials if trial.status == "failed"]
    if failed:
        parts.append(table(["trial", "why"], failed, caption="Trials that failed"))
    return section("Trials", join(parts))
