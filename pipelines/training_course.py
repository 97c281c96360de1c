"""The course of a training as charts: loss and validation by epoch, of every fit that there was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.page import Html, Line, bars, columns, element, figure, lines, section, table

# Of what validation gained, the share that must be lost again after the best epoch to be called a sign of overfitting.
_LOST = 0.1


def overfitting(fitted: Mapping[str, Any]) -> tuple[str, str]:
    """Whether the course of a fit shows overfitting, in words, and the tone of it.

    It does where after the best epoch the loss went on falling while the validation metric lost a tenth or more of what
    it had gained. A validation part that is easier or harder than the test cannot be told from here.
    """
    if not fitted["validation"]:
        return "There is no validation part to see overfitting by.", "plain"
    scores, losses, best = fitted["validation"]["by_epoch"], fitted["loss"], fitted["best_epoch"]
    metric, after = fitted["validation"]["metric"], len(scores) - 1 - best
    if not after:
        return "The last epoch is the best one: more epochs may still be better.", "plain"
    lost, gained = scores[best] - scores[-1], scores[best] - scores[0]
    fell = not best or losses[-1] < losses[best - 1]
    course = (
        f"In the {after} {'epoch' if after == 1 else 'epochs'} after the best one the loss "
        f"{'went on falling' if fell else 'did not fall'}, and validation {metric} went from {scores[best]:.4f} to "
        f"{scores[-1]:.4f}."
    )
    if fell and lost > 0 and lost >= _LOST * gained:
        return f"A sign of overfitting. {course} The weights of epoch {best} are kept.", "warning"
    return f"No sign of overfitting. {course}", "good"


def chosen_by(fitted: Mapping[str, Any]) -> str:
    return str(fitted["validation"]["metric"]) if fitted["validation"] else ""


def course(metrics: dict[str, Any], recipe: dict[str, Any], rows: Sequence[Mapping[str, float]]) -> Html:
    thaws = {epoch: "thaw" for epoch in _thaws(recipe) if epoch <= metrics["epochs"]}
    drawn = _curves("the towers", metrics, thaws)
    labels = [f"{row['epoch']:.0f}" for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row if name.startswith("validation ")))
    others = [name for name in names if name != f"validation {chosen_by(metrics)}"]
    if others:
        series = [Line(name.removeprefix("validation "), [row.get(name) for row in rows]) for name in others]
        numbers = table(
            ["epoch", *(line.name for line in series)],
            [[label, *(line.y[place] for line in series)] for place, label in enumerate(labels)],
        )
        title = "Other metrics of the validation part"
        drawn.append(figure(title, lines(title, labels, series[:5], from_zero=False), numbers))
    timed = [(label, row["seconds"]) for label, row in zip(labels, rows, strict=True) if "seconds" in row]
    if timed:
        title = "Seconds by epoch, judging included"
        chart = columns(title, [label for label, _ in timed], {"seconds": [value for _, value in timed]})
        drawn.append(figure(title, chart, table(["epoch", "seconds"], timed)))
    parts: list[Html] = [element("div", *drawn, class_="charts")]
    if "refit" in metrics:
        again = metrics["refit"]
        text = "Then built again with the validation part."
        if again["loss"]:  # none where the untrained towers were best
            last = f"{again['loss'][-1]:.4f}"
            text = f"Then trained again with the validation part, {again['epochs']} epochs, to loss {last}."
        parts.append(element("p", text))
    return section("Course of the towers", *parts)


def _curves(
    whose: str, fitted: Mapping[str, Any], marks: Mapping[int, str] | None = None, word: str = "best"
) -> list[Html]:
    """Loss and validation metric by epoch, with the best epoch marked."""
    losses, best = fitted["loss"], fitted["best_epoch"]
    labels = [str(epoch) for epoch in range(len(losses) + 1)]
    marked = {**(marks or {}), best: word if best not in (marks or {}) else f"thaw, {word}"}
    found = []
    if losses:
        title = f"Loss of {whose}"
        chart = lines(title, labels, [Line("loss", [None, *losses])], from_zero=False, marks=marked)
        found.append(figure(title, chart, table(["epoch", "loss"], zip(labels[1:], map(_four, losses), strict=True))))
    if fitted["validation"]:
        scores = fitted["validation"]["by_epoch"]
        title = f"Validation {chosen_by(fitted)} of {whose}"
        chart = lines(title, labels, [Line(chosen_by(fitted), scores)], from_zero=False, marks=marked)
        numbers = table(["epoch", chosen_by(fitted)], zip(labels, map(_four, scores), strict=True))
        found.append(figure(title, chart, numbers, note=f"Epoch 0 is before {whose} learned."))
    return found


def _thaws(recipe: dict[str, Any]) -> list[int]:
    stages = (recipe.get("fine_tuning") or {}).get("stages") or []
    image = recipe.get("image_tuning")
    return [int(stage["epoch"]) for stage in stages] + ([int(image["epoch"])] if image else [])


def schedule(recipe: dict[str, Any]) -> Html | None:
    """What learns from which epoch on, and how fast; None where all learns alike."""
    text, image = recipe.get("fine_tuning"), recipe.get("image_tuning")
    if not text and not image:
        return None
    rows: list[list[object]] = [[1, "towers", _rate(recipe["training"]["learning_rate"])]]
    if text:
        top = max(layer for stage in text["stages"] for layer in stage["layers"])
        for stage in text["stages"]:
            ends = [
                _rate(text["learning_rate"] * text["decay"] ** (top - layer))
                for layer in (min(stage["layers"]), max(stage["layers"]))
            ]
            layers = ", ".join(map(str, sorted(stage["layers"])))
            rows.append([stage["epoch"], f"text encoder, layers {layers}", " to ".join(dict.fromkeys(ends))])
    if image:
        rows.append([image["epoch"], "image encoder", _rate(image["learning_rate"])])
    return section("Schedule", table(["from epoch", "what learns", "learning rate"], rows))


def _rate(value: float) -> str:
    return f"{value:.2g}"


def second_stage(ranking: dict[str, Any]) -> Html:
    """How the ranker learned; a linear one is kept as its last epoch left it."""
    best, epochs = ranking["best_epoch"], len(ranking["loss"])
    told = f"{ranking['requests']:,} requests, {epochs} epochs; the weights of epoch {best} are kept."
    if ranking["validation"]:
        scores = ranking["validation"]["by_epoch"]
        told += (
            f" Validation {chosen_by(ranking)} {scores[0]:.4f} in the first stage's order, {scores[best]:.4f} after."
        )
    drawn = _curves("the second stage", ranking, word="kept")
    return section("Second stage", element("p", told), element("div", *drawn, class_="charts"))


def ensemble_section(ensemble: dict[str, Any]) -> Html:
    parts: list[Html] = []
    drawn: list[Html] = []
    if ensemble.get("validation"):
        judged = dict(sorted(ensemble["validation"].items(), key=lambda each: -each[1]))
        chart = bars("Validation by member", list(judged), {"validation": list(judged.values())}, format_=_four)
        drawn.append(figure("Validation metric of each alone, and of all together", chart))
    for name, fitted in ensemble["specialists"].items():
        drawn += _curves(f"the specialist of {name}", fitted)[-1:]
    parts.append(element("div", *drawn, class_="charts"))
    whole = ensemble["weights"][0]
    slices = f" of {len(ensemble['weights']) - 1} slices" if len(ensemble["weights"]) > 1 else ""
    note = f"Weights for whoever is in no slice{slices}; all of them are in metrics.json." if slices else ""
    parts.append(table(["member", "weight"], zip(ensemble["members"], whole, strict=True), caption="Weights"))
    if note:
        parts.append(element("p", note, class_="note"))
    return section("Ensemble", *parts)


def _four(value: float) -> str:
    return f"{value:.4f}"
