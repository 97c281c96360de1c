"""What each step of `balance` and `augmentation` is worth by itself, on the newsroom and on MIND.

Each is set on a recipe that has none, with the settings below, and compared with that recipe on the test part's slates:
the towers alone, without a second stage, and with the text projection trained, since most steps reach nothing else. One
seed. `BELFRY_DATA` names the folder with `mind-mini`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.quality.sources import NotHere, source

# Classes are categories, of which both data sets have small ones and large ones.
STEPS: dict[str, Any] = {
    "balance.weights": 0.5,
    "balance.upsample": {"to": 0.5},
    "balance.synthetic": {"method": "smote", "to": 0.5},
    "balance.simulated": {"events": 5},
    "augmentation.history.crop": 0.3,
    "augmentation.history.mask": 0.3,
    "augmentation.history.substitute": 0.3,
    "augmentation.history.reorder": 0.3,
    "augmentation.text": {"token_dropout": 0.2, "swap_fields": 0.5},
}


def run() -> None:
    from pipelines.ablation import compare, table_lines
    from pipelines.data.dataset import Dataset
    from pipelines.data.sources.mind import import_mind
    from pipelines.data.sources.newsroom import import_newsroom

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        import_newsroom("small", folder / "newsroom", seed=17)
        found = compare(variants("demo", epochs=2), Dataset.open(folder / "newsroom"), gains=True)
        print("\n".join(table_lines(found)), flush=True)
        try:
            mind = source("mind-mini") / "train"
        except NotHere as missing:
            print(missing)
            return
        import_mind(mind, folder / "mind")
        found = compare(variants("news", epochs=4), Dataset.open(folder / "mind"), gains=True)
        print("\n" + "\n".join(table_lines(found)), flush=True)


def variants(name: str, *, epochs: int) -> dict[str, Any]:
    """The shipped recipe's towers with no step, and with each alone."""
    from pipelines.recipe import Recipe
    from recipes import shipped

    values = Recipe.load(shipped(name)).model_dump(mode="json")
    # Some shipped recipes keep no test part, since theirs is of another day.
    values["data"]["split"] = {"by": "time", "validation": 0.15, "test": 0.25}
    values["towers"]["projection"] = "train"
    values["training"]["epochs"] = epochs
    values["ranking"] = None
    found = {"nothing": Recipe.model_validate(values)}
    for step, setting in STEPS.items():
        section, *rest = step.split(".")
        inside = {rest[-1]: setting}
        more = inside if len(rest) == 1 else {rest[0]: inside}
        found[step] = Recipe.model_validate(
            values | {section: more | ({"by": "category"} if section == "balance" else {})}
        )
    return found
