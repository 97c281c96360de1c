"""The shipped recipes on public data, beside simple baselines, in one run. The data stays where it is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks.commands import BELFRY, measure
from recipes import shipped


def mind() -> None:
    """recipes/news.yaml on MIND: trained on mind-mini/train, judged on dev and on natural lists."""
    source = _source("mind-mini")
    if source is None:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("train", "dev", "dev-natural"):
            measure(BELFRY, "data", "import", "mind", source / part, folder / part)
        _train(folder, "news", folder / "train")
        for part in ("dev", "dev-natural"):
            print(measure(BELFRY, "evaluate", folder / "news", "--data", folder / part).output)


def ml100k() -> None:
    """The id-based and the hybrid recipe on MovieLens 100K, last event by time held out, full ranking."""
    source = _source("ml100k")
    if source is None:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plots = source / "items_omdb.jsonl"
        extra = ("--plots", plots) if plots.exists() else ()
        measure(BELFRY, "data", "import", "movielens", source, folder / "data", *extra)
        for recipe in ("ids", "catalogue"):
            _train(folder, recipe, folder / "data")
            print(measure(BELFRY, "evaluate", folder / recipe).output)


def _train(folder: Path, recipe: str, data: Path) -> None:
    found = measure(BELFRY, "train", shipped(recipe), "--data", data, "--out", folder / recipe)
    print(f"recipes/{recipe}.yaml: trained in {found.seconds:.0f} s, peak {found.peak_mib:,.0f} MiB", flush=True)


def _source(name: str) -> Path | None:
    root = os.environ.get("BELFRY_DATA")
    folder = Path(root) / name if root else None
    if folder is None or not folder.is_dir():
        print(f"left out: set BELFRY_DATA to a folder that holds {name} (not distributed with Belfry)")
        return None
    return folder
