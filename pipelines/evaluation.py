"""Judge a run beside simple baselines, on the same rows, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from pipelines.artefacts import check_file, write_json, write_text
from pipelines.calibration import expected_calibration_error, reliability
from pipelines.data.dataset import Dataset
from pipelines.data.engine import OpenEngine, open_duckdb
from pipelines.data.splits import Part
from pipelines.encode import text_vectors
from pipelines.errors import BadInput
from pipelines.evaluation_page import evaluation_page
from pipelines.judge import CatalogueTargets, Slates
from pipelines.metrics import Estimate, bootstrap, rank_metrics
from pipelines.overlap import are_timed, as_far_as_trained, without_learned
from pipelines.prepare import Prepared, prepare, prepare_for
from pipelines.progress import stages, track
from pipelines.rankers import FixedOrder, Ranker, item_knn, popularity, text_profile, tfidf_profile
from pipelines.recipe import Text
from pipelines.result import Result
from pipelines.run import Run
from pipelines.second_stage import TwoStageRanker
from pipelines.slices import Slices
from pipelines.trained import first_stage, second_stage

_KNN_DECAY = 0.8
_SIZES = 20  # of probabilities


def evaluate(
    run: Run,
    other: Dataset | None = None,
    *,
    out: Path | str | None = None,
    report: Path | str | None = None,
    engine: OpenEngine = open_duckdb,
) -> Result:
    """Metrics of a run and of the baselines, with 95 % bootstrap intervals.

    Without `other`, the test part of the run's own dataset is judged; with it, everything in `other` that the run
    cannot have learned from: where the two logs share an event, what is later than the end of the run's
    (`pipelines.overlap.learned_from`). `left_out_as_learned_from` counts the rest.

    Slates are judged where there are impressions; the whole catalogue wherever there are positives. `difference` is the
    model minus a baseline on the same rows, with the interval of the paired bootstrap. `slices` has both for new and
    known users, new, head and tail items, and languages.

    Args:
        run: What is judged.
        other: A dataset instead of the run's own test part.
        out: Also write the result there, as JSON.
        report: Also write it there, as a page.
        engine: Opens what prepares the events.

    Raises:
        BadInput: There is nothing to judge on, or the run's own dataset is another since then.

    Example:
        >>> from pipelines import Run, evaluate
        >>> result = evaluate(Run.open("run"))  # print(result) shows the table
        >>> [part for part in ("slates", "catalogue") if part in result]
        ['slates', 'catalogue']
        >>> sorted(result.rows()[0])[:6]
        ['count', 'high', 'lead_high', 'lead_low', 'lead_mean', 'low']
    """
    out, report = (None if path is None else check_file(Path(path)) for path in (out, report))
    trained_on = run.training_data()
    same = run.was_trained_on(trained_on)
    if other is None and not same:
        # Its test part would be cut anew, and hold what the run has learned from.
        raise BadInput(
            f"{trained_on.folder} is no longer the dataset that {run.folder} was trained on: put that back, or name "
            "what is to be judged with --data."
        )
    data = own = prepare(trained_on, run.recipe, engine=engine)
    learned = {"requests": 0, "positives": 0}
    if other is not None:
        # Baselines are to learn from no more than the run has.
        own = own if same else as_far_as_trained(run, own)
        timed = are_timed(trained_on, other)
        data, learned = without_learned(run, own, prepare_for(run, other, engine=engine), timed=timed)
    slates = Slates.of(data.behaviour, data.parts.requests == Part.TEST, known_only=True)
    wanted = data.parts.interactions == Part.TEST
    if data.on_requests:
        wanted &= data.behaviour.interactions.request >= 0
    targets = CatalogueTargets.of(data.behaviour, data.catalogue, wanted)
    first = first_stage(run, data)
    second = second_stage(run, data, first, own=own)
    model: Ranker = second or first
    with stages("baselines", {"fitting": 1}) as begin:
        begin("fitting")
        rankers = [model, *([first] if second else []), *baselines(own, data, run)]
    seed = run.recipe.training.seed
    result: dict[str, Any] = {
        "run": run.folder.resolve().name,
        "dataset": data.name,
        "requests": int((data.parts.requests == Part.TEST).sum()),
        "catalogue_queries": len(targets.queries),
        "targets_already_seen": targets.already_seen,
        "positives_of_unknown_items": data.behaviour.unknown,
        "left_out_as_learned_from": learned,
    }
    slices = Slices.of(own, data)
    if len(slates.item):
        scores = {ranker.name: slates.scores(ranker) for ranker in track(rankers, "judging slates", len(rankers))}
        rows = {name: slates.measure(values) for name, values in scores.items()}
        if np.isfinite(rows[model.name]["auc"]).any():
            by_slice = {name: slices.of_slates(slates, values) for name, values in scores.items()}
            result["slates"] = _table(rows, seed) | {"slices": _sliced(by_slice, seed)}
            if second:
                result["calibration"] = _calibration(second, slates)
    if len(targets.queries):
        ranks = {ranker.name: targets.ranks(ranker) for ranker in track(rankers, "ranking the catalogue", len(rankers))}
        by_slice = {name: slices.of_ranks(targets, values) for name, values in ranks.items()}
        rows = {name: rank_metrics(values) for name, values in ranks.items()}
        result["catalogue"] = _table(rows, seed) | {"slices": _sliced(by_slice, seed)}
    if "slates" not in result and "catalogue" not in result:
        raise BadInput(
            f"there is nothing to judge on in {data.name}: no request has both a click and an item left alone, and no "
            "click is on a new item of the catalogue (does the recipe's split keep a test part?)."
        )
    if out is not None:
        write_json(out, result)
    if report is not None:
        write_text(report, evaluation_page(result))
    return Result(result, table_lines, table_rows)


def baselines(own: Prepared, data: Prepared, run: Run) -> list[Ranker]:
    """What a user would pick instead, fitted on the run's training part and applied to `data`'s items."""
    before = own.parts.interactions < Part.TEST
    log = own.behaviour.interactions
    place = {item: row for row, item in enumerate(data.catalogue.ids, start=1)}
    # From the training catalogue's rows to the judged catalogue's.
    rows = np.array([0, *(place.get(item, 0) for item in own.catalogue.ids)])
    seen = rows[log.item[before]]
    items = len(data.catalogue)
    found: list[Ranker] = [FixedOrder("popularity", popularity(seen, items))]
    if (data.catalogue.published_at > np.iinfo(np.int64).min).any():
        found.append(FixedOrder("newest first", data.catalogue.published_at.astype(float)))
    history, judged = run.recipe.features.history, data.behaviour.interactions
    if any(data.catalogue.text):
        found.append(tfidf_profile(data.catalogue, judged, history))
        text = run.recipe.features.text or Text()
        found.append(text_profile(text_vectors(data.catalogue.text, text), judged, history))
    similar = item_knn(log.user[before], seen, items)
    found.append(similar.over(judged, "itemKNN"))
    found.append(similar.over(judged, f"itemKNN, recent first ({_KNN_DECAY})", decay=_KNN_DECAY))
    return found


def _table(rows: dict[str, dict[str, np.ndarray]], seed: int) -> dict[str, Any]:
    """Estimates by ranker and metric, and the model's lead over each other ranker."""
    model, *others = rows
    flat = {f"{name}\t{metric}": value for name, metrics in rows.items() for metric, value in metrics.items()}
    lead = {f"{name}\t{metric}": rows[model][metric] - value for name in others for metric, value in rows[name].items()}
    return {
        "metrics": _nested(bootstrap(flat, seed=seed)),
        "difference": _nested(bootstrap(lead, seed=seed)),
    }


def _sliced(by_slice: dict[str, dict[str, dict[str, np.ndarray]]], seed: int) -> dict[str, Any]:
    """By slice, a table of all rankers."""
    model = next(iter(by_slice))
    return {name: _table({ranker: found[name] for ranker, found in by_slice.items()}, seed) for name in by_slice[model]}


def _calibration(second: TwoStageRanker, slates: Slates) -> dict[str, dict[str, Any]]:
    """How far the second stage's probabilities are from what happened."""
    tasks = second.tower.tasks
    probability = expit(second.log_odds(slates.queries, slates.request(), slates.item - 1).astype(np.float64))
    labels = slates.labels(tasks)
    return {
        name: {
            "ece": expected_calibration_error(probability[:, task], labels[:, task]),
            "mean_predicted": float(probability[:, task].mean()),
            "mean_observed": float(labels[:, task].mean()),
            "bins": reliability(probability[:, task], labels[:, task]),
            "spread": _spread(probability[:, task]),
        }
        for task, name in enumerate(tasks)
    }


def _spread(probability: np.ndarray) -> list[dict[str, float]]:
    """How many of each size there are, from 0 to the largest."""
    counts, ends = np.histogram(probability, bins=_SIZES, range=(0.0, float(probability.max())))
    return [{"from": float(start), "count": int(count)} for start, count in zip(ends, counts, strict=False)]


def _nested(estimates: dict[str, Estimate]) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for key, estimate in estimates.items():
        name, metric = key.split("\t")
        table.setdefault(name, {})[metric] = estimate.as_dict()
    return table


def table_lines(result: dict[str, Any]) -> list[str]:
    """The result as aligned plain text."""
    lines = [
        f"{result['dataset']}: {result['requests']:,} requests, {result['catalogue_queries']:,} catalogue queries "
        f"({result['targets_already_seen']:,} targets already seen left out); "
        f"{result['positives_of_unknown_items']:,} positives of items not in the catalogue left out"
    ]
    learned = result["left_out_as_learned_from"]
    if any(learned.values()):
        lines.append(
            f"left out, since the run may have learned from them: {learned['requests']:,} requests, "
            f"{learned['positives']:,} positives"
        )
    for part, columns in (
        ("slates", ("auc", "mrr", "ndcg@5", "ndcg@10", "precision@5")),
        ("catalogue", ("recall@10", "ndcg@10", "recall@100")),
    ):
        if part not in result:
            continue
        metrics = result[part]["metrics"]
        count = next(iter(next(iter(metrics.values())).values()))["count"]
        lines += ["", f"{part} (mean [95 % interval] over {count:,})"]
        lines.append(f"  {'':28}" + "".join(f"{column:>28}" for column in columns))
        for name, values in metrics.items():
            cells = "".join(f"{_cell(values[column]):>28}" for column in columns)
            lines.append(f"  {name:28}{cells}")
        lines += _slice_lines(result[part]["slices"], "ndcg@10")
    calibration = result.get("calibration", {})
    lines += [""] if calibration else []
    for task, found in calibration.items():
        lines += [
            f"probability of a {task}: {found['mean_predicted']:.4f} predicted, {found['mean_observed']:.4f} observed, "
            f"expected calibration error {found['ece']:.4f}",
        ]
    return lines


def table_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each part, slice ("all" for the whole), ranker and metric, with the model's lead where it has one."""
    rows = []
    for part in ("slates", "catalogue"):
        for name, found in ({"all": result[part]} | result[part]["slices"] if part in result else {}).items():
            for ranker, metrics in found["metrics"].items():
                for metric, value in metrics.items():
                    row = {"part": part, "slice": name, "ranker": ranker, "metric": metric} | value
                    lead = found["difference"].get(ranker, {}).get(metric, {})
                    rows.append(row | {f"lead_{key}": lead.get(key) for key in ("mean", "low", "high")})
    return rows


def _slice_lines(slices: dict[str, Any], metric: str) -> list[str]:
    """The model by slice, and the best of what it is compared with."""
    lines = [f"  by slice, {metric}"]
    for name, table in slices.items():
        model, *others = table["metrics"]
        best = max(others, key=lambda other: table["metrics"][other][metric]["mean"])
        value, other = table["metrics"][model][metric], table["metrics"][best][metric]
        lines.append(f"    {name:16}{value['count']:>8,} {_cell(value):>27}   best other {other['mean']:.4f} ({best})")
    return lines


def _cell(value: dict[str, float]) -> str:
    return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
