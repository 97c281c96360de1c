"""An ablation as a page: what each step is worth, with intervals."""

from __future__ import annotations

from typing import Any

from pipelines.page import badge, element, figure, intervals, page, section, table


def ablation_page(result: dict[str, Any]) -> str:
    """One HTML document, complete in itself."""
    metric, variants, first = result["metric"], result["variants"], result["compared_with"]
    steps = [name for name in variants if name != first]
    rows = []
    for name in steps:
        lead, value = variants[name]["worth"][metric], variants[name]["metrics"][metric]
        tone = "good" if lead["low"] > 0 else "error" if lead["high"] < 0 else "plain"
        word = {"good": "gain", "error": "loss", "plain": "no measurable difference"}[tone]
        added = added_by(variants[name if result["gains"] else first], name)
        rows.append([name, badge(word, tone), signed(lead), cell(value), added or "–", _epochs(variants[name])])
    whole = variants[first]
    rows.append([first, None, None, cell(whole["metrics"][metric]), "–", _epochs(whole)])
    with_or_without = f"{metric} with it" if result["gains"] else f"{metric} without it"
    numbers = table(["step", "verdict", "worth", with_or_without, "added", "best epoch"], rows, wide=True)
    chart = intervals(
        f"What each step is worth in {metric}",
        [name.split(".", 1)[-1] for name in steps],
        [tuple(variants[name]["worth"][metric][key] for key in ("low", "mean", "high")) for name in steps],
    )
    others = [
        section(
            "All metrics",
            table(
                ["variant", *(name for name in whole["metrics"])],
                [
                    [
                        name if name == first or result["gains"] else f"without {name}",
                        *(cell(each) for each in variants[name]["metrics"].values()),
                    ]
                    for name in variants
                ],
                wide=True,
                caption="mean [95 % interval]",
            ),
        )
    ]
    count = whole["metrics"][metric]["count"]
    lead = (
        f"{metric} of the {result['part']} part, {count:,} rows, with 95 % intervals of paired differences. "
        + (f"Each is the mean of {result['seeds']} seeds. " if result["seeds"] > 1 else "One seed. ")
        + "An interval that holds 0 is no measurable difference; it says nothing of other seeds. Of twenty steps that "
        "do nothing, one looks like a gain or a loss."
    )
    said = element("ul", *(element("li", line) for line in result["verdict"].values()))
    drawn = element("div", figure(f"Worth of each step, {metric}", chart), class_="charts")
    return page(f"Ablation on {result['dataset']}", lead, [section("Steps", drawn, numbers, said), *others])


def cell(value: dict[str, Any]) -> str:
    return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"


def signed(value: dict[str, Any]) -> str:
    return f"{value['mean']:+.4f} [{value['low']:+.4f}, {value['high']:+.4f}]"


def _epochs(about: dict[str, Any]) -> str:
    return ", ".join(map(str, about["best_epoch"]))


def added_by(about: dict[str, Any], step: str) -> str:
    """What a step of a variant has added, in a few words; "" for nothing that can be counted."""
    section, _, name = step.partition(".")
    found = about.get(section, {}).get(name) if name else None
    if step == "balance.weights" and found:
        return f"{found['lowest']:.2f} to {found['highest']:.2f}"
    if step == "augmentation.text" and found:
        return f"{found['views']:,} views" if "views" in found else f"{found['token_dropout']:g} of the tokens"
    if step.startswith("augmentation.history.") and name:
        share = about.get(section, {}).get("history", {}).get(name.split(".")[1])
        return "" if share is None else f"{share:g} of the events"
    return f"{found['added']:,}" if isinstance(found, dict) and "added" in found else ""
