"""Every history encoder on MovieLens 100K: recipes/ids.yaml with nothing else changed, last rating held out."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import get_args

from benchmarks.commands import BELFRY, measure
from benchmarks.quality.sources import NotHere, source
from recipes import shipped


def run() -> None:
    try:
        data = source("ml100k")
    except NotHere as missing:
        print(missing)
        return
    from pipelines.recipe import Recipe, Towers

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(BELFRY, "data", "import", "movielens", data, folder / "data")
        recipe = Recipe.load(shipped("ids"))
        for encoder in get_args(Towers.model_fields["history_encoder"].annotation):
            towers = recipe.towers.model_copy(update={"history_encoder": encoder})
            (folder / "recipe.yaml").write_text(recipe.model_copy(update={"towers": towers}).dump())
            trained = measure(
                *(BELFRY, "train", folder / "recipe.yaml", "--data", folder / "data", "--out", folder / "run", "--json")
            )
            epochs = json.loads(trained.output)["epochs"]
            found = json.loads(measure(BELFRY, "evaluate", folder / "run", "--json").output)
            metrics = found["catalogue"]["metrics"]["two-tower"]
            cells = (f"{key} {metrics[key]['mean']:.4f}" for key in ("ndcg@10", "recall@10", "recall@100"))
            print(
                f"{encoder:12} {', '.join(cells)}, {trained.cpu_seconds / epochs:.1f} CPU seconds an epoch", flush=True
            )
