"""An evaluation as a page: the model beside the baselines, where it is better and where not, and what was judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.ablation_page import cell, signed
from pipelines.page import (
    Html,
    Line,
    agreement,
    badge,
    cards,
    columns,
    element,
    figure,
    intervals,
    lines,
    page,
    section,
    table,
)
from pipelines.page.drawing import percent

# By part, how it is called and by what it is judged first.
_PARTS = {
    "slates": (
        "Slates",
        ("auc", "ndcg@10"),
        "the order of what each request showed; one without a click, or of clicks alone, tells nothing and is left out",
    ),
    "catalogue": (
        "Whole catalogue",
        ("ndcg@10", "recall@10"),
        "where the item that was clicked stands among all that was on offer and not seen before",
    ),
}
_MEANS = {
    "auc": "Of a clicked item and one left alone of the same request, how often the clicked one stands higher; 0.5 is "
    "chance.",
    "mrr": "Mean of 1 / rank of the clicked items: 1 where they lead, 0.5 for the second place.",
    "ndcg": "Clicked items among the first k, each discounted by the logarithm of its rank, over the best that was "
    "possible (Järvelin and Kekäläinen 2002).",
    "precision": "Share of the first k that was clicked; k divides, also where fewer were shown.",
    "recall": "How often the clicked item is among the first k of the catalogue.",
}
_COMPARED = 4  # lines of others in one chart
_MODEL, _OTHER = 0, 4  # colours


def evaluation_page(result: dict[str, Any]) -> str:
    """One HTML document, complete in itself, of what `pipelines.evaluation.evaluate` returned."""
    parts = [part for part in _PARTS if part in result]
    sections = [_result(result, parts)]
    for part in parts:
        sections += [_part(part, result[part]), _slices(part, result[part])]
    if "calibration" in result:
        sections.append(_calibration(result["calibration"]))
    sections += [_judged(result, parts), _glossary(result, parts)]
    return page(
        f"Evaluation of {result['run']} on {result['dataset']}",
        f"{_model(result[parts[0]])} beside {len(result[parts[0]]['difference'])} others, on the same rows, with 95 % "
        "bootstrap intervals.",
        sections,
    )


def _model(judged: dict[str, Any]) -> str:
    return str(next(iter(judged["metrics"])))


def _ordered(judged: dict[str, Any], metric: str) -> list[str]:
    """All that was judged, the best first."""
    return sorted(judged["metrics"], key=lambda name: -float(judged["metrics"][name][metric]["mean"]))


def _strongest(judged: dict[str, Any], metric: str) -> str:
    """The best of what the model is compared with."""
    return next(name for name in _ordered(judged, metric) if name != _model(judged))


def _verdict(lead: dict[str, Any]) -> tuple[str, str]:
    """In words, and its tone."""
    if lead["low"] > 0:
        return "better", "good"
    return ("worse", "error") if lead["high"] < 0 else ("no measurable difference", "plain")


def _result(result: dict[str, Any], parts: Sequence[str]) -> Html:
    told, figures = [], list[tuple[str, object]]()
    for part in parts:
        judged, (title, metrics, _) = result[part], _PARTS[part]
        metric = metrics[0]
        other = _strongest(judged, metric)
        lead, value = judged["difference"][other][metric], judged["metrics"][_model(judged)][metric]
        word, tone = _verdict(lead)
        text = f" {title}: {metric} {cell(value)}, {signed(lead)} to the best other, {other}."
        told.append(element("p", badge(word, tone), text))
        figures += [(f"{metric}, {title.lower()}", f"{value['mean']:.4f}")]
        figures += [(f"its lead over {other}", f"{lead['mean']:+.4f}")]
    figures += [("requests", f"{result['requests']:,}"), ("catalogue queries", f"{result['catalogue_queries']:,}")]
    return section("Result", *told, cards(figures))


def _part(part: str, judged: dict[str, Any]) -> Html:
    title, chosen, what = _PARTS[part]
    metrics, leads, model = judged["metrics"], judged["difference"], _model(judged)
    count = metrics[model][chosen[0]]["count"]
    whole, leading, cut = [], [], []
    for metric in chosen:
        names = _ordered(judged, metric)
        colours = [_MODEL if name == model else _OTHER for name in names]
        values = [_three(metrics[name][metric]) for name in names]
        whole.append(figure(metric, intervals(f"{title}: {metric}", names, values, colours=colours)))
        others = [name for name in names if name != model]
        chart = intervals(f"{title}: lead in {metric}", others, [_three(leads[name][metric]) for name in others])
        note = "The model minus each other, paired. Grey holds 0: no measurable difference."
        leading.append(figure(f"Lead in {metric} over", chart, note=note))
    if part == "catalogue":
        cut = [_by_cutoff(judged, kind) for kind in ("ndcg", "recall")]
    # Three beside each other on a wide screen; the metrics of all are in the table too.
    drawn = [whole[0], leading[0], *cut[:1], *whole[1:2], leading[1], *cut[1:]] if cut else [whole[0], *leading]
    rows = [[name, *(cell(value) for value in metrics[name].values())] for name in _ordered(judged, chosen[0])]
    differences = []
    for name in rows:
        if name[0] != model:
            word, tone = _verdict(leads[name[0]][chosen[0]])
            differences.append([name[0], badge(word, tone), *(signed(value) for value in leads[name[0]].values())])
    return section(
        title,
        element("p", f"Over {count:,} {'requests' if part == 'slates' else 'queries'}: {what}."),
        element("div", *drawn, class_="charts"),
        table(["ranker", *metrics[model]], rows, caption="Metrics: mean [95 % interval]", wide=True),
        table(
            ["the model minus", f"in {chosen[0]}", *metrics[model]],
            differences,
            caption="Leads: mean [95 % interval] of the paired difference",
            wide=True,
        ),
    )


def _by_cutoff(judged: dict[str, Any], kind: str) -> Html:
    metrics, model = judged["metrics"], _model(judged)
    cutoffs = [name for name in metrics[model] if name.startswith(f"{kind}@")]
    others = [name for name in _ordered(judged, cutoffs[-1]) if name != model]
    names = [model, *others[:_COMPARED]]
    drawn = [
        Line(name, *([metrics[name][metric][key] for metric in cutoffs] for key in ("mean", "low", "high")))
        for name in names
    ]
    labels = [f"k = {name.partition('@')[2]}" for name in cutoffs]
    rows = [[name, *(metrics[name][metric]["mean"] for metric in cutoffs)] for name in [model, *others]]
    note = f"The model and the best {_COMPARED} others." if len(others) > _COMPARED else ""
    title = f"{kind}@k by cutoff"
    return figure(title, lines(title, labels, drawn), table(["ranker", *cutoffs], rows), note=note)


def _slices(part: str, judged: dict[str, Any]) -> Html:
    title, chosen, _ = _PARTS[part]
    metric = "ndcg@10" if "ndcg@10" in chosen else chosen[0]
    labels, values, colours, rows, leads = [], list[tuple[float, ...]](), list[int](), [], []
    for name, found in judged["slices"].items():
        model, other = _model(found), _strongest(found, metric)
        value, best, lead = found["metrics"][model][metric], found["metrics"][other][metric], found["difference"]
        labels += [name, other]
        values += [_three(value), _three(best)]
        colours += [_MODEL, _OTHER]
        word, tone = _verdict(lead[other][metric])
        count = value["count"]
        rows.append([name, count, cell(value), other, cell(best), signed(lead[other][metric]), badge(word, tone)])
        leads.append((name, _three(lead[other][metric])))
    if not rows:
        return section(f"{title}, by slice", element("p", "No slice has anything to judge on."))
    over = "Lead over the best other of the slice"
    drawn = [
        figure(
            f"{metric} by slice",
            intervals(f"{title}: {metric} by slice", labels, values, colours=colours),
            note="The model, and in grey below it the best other of that slice.",
        ),
        figure(
            over,
            intervals(f"{title}: {over}", [name for name, _ in leads], [value for _, value in leads]),
            note="Each slice is compared with its own best other, which is chosen on the same rows.",
        ),
    ]
    heads = ["slice", "judged", f"{metric} of the model", "best other", f"its {metric}", "lead", "verdict"]
    return section(f"{title}, by slice", element("div", *drawn, class_="charts"), table(heads, rows, wide=True))


def _calibration(found: dict[str, Any]) -> Html:
    drawn, spreads, rows = [], [], []
    for task, each in found.items():
        rows.append([task, *(percent(each[key]) for key in ("mean_predicted", "mean_observed")), f"{each['ece']:.4f}"])
        bins = each["bins"]
        numbers = table(
            ["shown", "predicted", "observed", "95 % interval"],
            [
                [
                    row["count"],
                    percent(row["predicted"]),
                    percent(row["observed"]),
                    f"{percent(row['low'])} to {percent(row['high'])}",
                ]
                for row in bins
            ],
        )
        chart = agreement(
            f"Probability of a {task}: predicted and observed",
            [tuple(row[key] for key in ("predicted", "low", "observed", "high")) for row in bins],
            format_=percent,
        )
        note = (
            f"Bins of {bins[0]['count']:,} shown items; across the prediction, up what happened. On the line is right."
        )
        drawn.append(figure(f"Probability of a {task}", chart, numbers, note=note))
        spread = each["spread"]
        labels = [percent(row["from"]) for row in spread]
        counts = columns(f"Predictions of a {task}", labels, {"shown": [row["count"] for row in spread]})
        text = table(["from", "shown"], [[label, row["count"]] for label, row in zip(labels, spread, strict=True)])
        spreads.append(figure(f"How often which probability of a {task}", counts, text))
    return section(
        "Calibration of the second stage",
        table(["task", "mean predicted", "mean observed", "expected calibration error"], rows),
        element("div", *drawn, *spreads, class_="charts"),
    )


def _judged(result: dict[str, Any], parts: Sequence[str]) -> Html:
    rows = [["requests", f"{result['requests']:,}", "of the part that is judged"]]
    if "slates" in parts:
        count = result["slates"]["metrics"][_model(result["slates"])]["auc"]["count"]
        rows.append(["slates judged", f"{count:,}", "that have both a click and an item left alone"])
    rows += [
        ["catalogue queries", f"{result['catalogue_queries']:,}", "positives whose rank among the catalogue is wanted"],
        [
            "already seen",
            f"{result['targets_already_seen']:,}",
            "positives left out there, since the user knew the item",
        ],
        [
            "unknown items",
            f"{result['positives_of_unknown_items']:,}",
            "positives left out everywhere, since the catalogue does not have the item",
        ],
    ]
    for what, count in result["left_out_as_learned_from"].items():
        if count:
            rows.append([f"{what} learned from", f"{count:,}", "left out, since the run may have been trained on them"])
    return section("What was judged", table(["what", "count", "which are"], rows))


def _glossary(result: dict[str, Any], parts: Sequence[str]) -> Html:
    there = {name.partition("@")[0] for part in parts for name in result[part]["metrics"][_model(result[part])]}
    rows = [[f"{name}{'' if name in ('auc', 'mrr') else '@k'}", text] for name, text in _MEANS.items() if name in there]
    rows.append(
        ["95 % interval", "Percentile bootstrap over requests or queries, 1,000 draws; it says nothing of seeds."]
    )
    rows.append(["better, worse", "The interval of the paired difference lies above 0, or below."])
    if "calibration" in result:
        rows.append(["expected calibration error", "Mean gap between predicted and observed rate over equal bins."])
    return section("What the words mean", table(["word", "meaning"], rows))


def _three(value: dict[str, Any]) -> tuple[float, float, float]:
    return value["low"], value["mean"], value["high"]
