"""A cross-validation as a page: fold by fold, and how far the folds are apart."""

from __future__ import annotations

from typing import Any

from pipelines.page import Line, badge, cards, element, figure, folded, intervals, lines, page, section, table


def folds_page(result: dict[str, Any], recipe: str) -> str:
    """One HTML document, complete in itself, of what `pipelines.folds.cross_validate` returned.

    Args:
        result: The content of folds.json.
        recipe: The text of the recipe.
    """
    rows, metric, test, gap = result["folds"], result["metric"], result["test"], result["gap"]
    spread = test[metric]
    words = "overfits" if result["overfits"] else "no sign of overfitting"
    told = element(
        "p",
        badge(words, "warning" if result["overfits"] else "good"),
        f" Training has drawn the training part ahead of the test by {gap['mean']:+.4f} "
        f"[{gap['low']:+.4f}, {gap['high']:+.4f}] {metric}.",
    )
    head = cards(
        [
            (f"{metric}, mean of the folds", f"{spread['mean']:.4f}"),
            ("standard deviation", f"{spread['deviation']:.4f}"),
            ("worst fold", f"{min(row['test'][metric] for row in rows):.4f}"),
            ("best fold", f"{max(row['test'][metric] for row in rows):.4f}"),
            ("folds", len(rows)),
        ]
    )
    names = [str(fold) for fold in range(1, len(rows) + 1)]
    drawn = [
        Line("test", [row["test"][metric] for row in rows]),
        Line("training", [row["training"][metric] for row in rows]),
        Line("untrained, test", [row["untrained"]["test"][metric] for row in rows]),
    ]
    numbers = table(["fold", *(line.name for line in drawn)], zip(names, *(line.y for line in drawn), strict=True))
    by_fold = lines(f"{metric} by fold", names, drawn, from_zero=False)
    means = intervals(
        "Means over the folds",
        list(test),
        [tuple(each[key] for key in ("low", "mean", "high")) for each in test.values()],
        colours=[0 if name == metric else 4 for name in test],
    )
    charts = element(
        "div",
        figure(f"{metric} by fold", by_fold, numbers),
        figure("Mean over the folds", means, note="With its 95 % interval by Student's t."),
        class_="charts",
    )
    table_ = table(
        ["fold", "examples", "best epoch", *test],
        [
            [name, row["examples"], row["best_epoch"], *(f"{value:.4f}" for value in row["test"].values())]
            for name, row in zip(names, rows, strict=True)
        ],
        caption="The test of each fold",
        wide=True,
    )
    spreads = table(
        ["metric", "mean", "deviation", "95 % interval of the mean"],
        [
            [name, f"{each['mean']:.4f}", f"{each['deviation']:.4f}", f"{each['low']:.4f} to {each['high']:.4f}"]
            for name, each in test.items()
        ],
        caption="Over the folds",
    )
    how = {
        "users": "every user is tested once, by a model that has seen nothing of theirs",
        "time": "a model is tested on the block of the log that follows what it was trained on",
    }[result["by"]]
    note = element(
        "p",
        "Folds share most of what they are trained on: the interval is a little too small for a difference between "
        "recipes (Bengio and Grandvalet 2004).",
        class_="note",
    )
    return page(
        f"{len(rows)} folds by {result['by']}",
        f"By {result['by']}: {how}. The epoch of each is chosen on a validation part, as ever.",
        [
            section("Result", told, head),
            section("Folds", charts, table_, spreads, note),
            section("Recipe", folded("The whole recipe, recipe.yaml", recipe)),
        ],
    )
