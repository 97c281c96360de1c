"""What adaptation is worth on a domain without clicks: a case built to need it, and a real one.

The built case is the newsroom's English desk, and a partner whose edition is half of its articles. A title may begin
with "Exclusive:", on half of the own articles, where readers fall for it, and on nine in ten of the partner's, where
they are tired of it. Everything else is the newsroom's: what it shows, and how likely each article is clicked. A model
that learns from the own edition alone takes the word for worth. The word is what tells the editions apart, so a model
that must not know the edition must not know the word.

The real case is MIND with one of its frequent categories held out. `BELFRY_DATA` names the folder with `mind-mini`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.quality.sources import NotHere, source

OWN, PARTNER = "en", "en-GB"
_WORD = "Exclusive: "
_SHARE = {OWN: 0.5, PARTNER: 0.9}
_LOG_ODDS = {OWN: 2.5, PARTNER: -1.5}


def run() -> None:
    from pipelines.adaptation import adapt, table_lines
    from pipelines.data.dataset import Dataset
    from pipelines.data.sources.mind import import_mind
    from pipelines.recipe import Recipe
    from recipes import shipped

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_editions(folder)
        built = Recipe.model_validate(BUILT)
        found = adapt(built, data, folder / "built", domain="language", held_out=PARTNER)
        print("\n".join(table_lines(found)), flush=True)
        try:
            mind = source("mind-mini") / "train"
        except NotHere as missing:
            print(missing)
            return
        import_mind(mind, folder / "mind")
        values = Recipe.load(shipped("news")).model_dump(mode="json")
        # The shipped recipe keeps a tenth and more for validation and tests on another day.
        values["data"]["split"] = {"by": "time", "validation": 0.15, "test": 0.25}
        values["towers"]["projection"] = "train"
        values["adaptation"] = {"domain": "category"}
        real = Recipe.model_validate(values)
        for category in ("sports", "news"):
            found = adapt(real, Dataset.open(folder / "mind"), folder / category, domain="category", held_out=category)
            print("\n" + "\n".join(table_lines(found)), flush=True)


BUILT: dict[str, Any] = {
    "data": {"split": {"by": "time", "validation": 0.15, "test": 0.3}},
    "features": {
        "text": {"preset": "minilm", "max_tokens": 24, "fields": "title"},
        **dict.fromkeys(("category", "language", "item_id", "time_of_day"), False),
        "history": 20,
    },
    "towers": {"projection": "train", "dropout": 0.0, "history_encoder": "mean"},
    "training": {"epochs": 6, "patience": 6, "batch_size": 256, "learning_rate": 3e-4, "in_batch_weight": 0.0},
    "adaptation": {"weight": 1.0, "penalty": 0.1},
}


def write_editions(folder: Path, *, seed: int = 17) -> Any:
    """The dataset of the built case, below `folder`."""
    from pipelines.data.dataset import Dataset
    from pipelines.data.sources.newsroom import NewsroomSize, import_newsroom
    from pipelines.data.sources.table import import_table

    import_newsroom(NewsroomSize(articles=1_600, users=1_500, days=14, requests=30_000), folder / "newsroom", seed=seed)
    rng = np.random.default_rng(seed)
    items = pq.read_table(folder / "newsroom" / "items.parquet")
    items = items.filter(pc.equal(items["language"], "en")).select(["item_id", "title", "published_at"])
    edition = np.where(rng.random(len(items)) < 0.5, OWN, PARTNER)
    shouts = rng.random(len(items)) < np.array([_SHARE[each] for each in edition])
    titles = [_WORD * bool(shout) + title for shout, title in zip(shouts, items["title"].to_pylist(), strict=True)]
    items = items.set_column(1, "title", pa.array(titles)).append_column("language", pa.array(edition))
    lift = {
        item: _LOG_ODDS[each] * shout
        for item, each, shout in zip(items["item_id"].to_pylist(), edition, shouts, strict=True)
    }
    events = pq.read_table(folder / "newsroom" / "events.parquet")
    truth = pq.read_table(folder / "newsroom" / "truth.parquet")
    known = dict(zip(truth["event_id"].to_pylist(), truth["click_probability"].to_pylist(), strict=True))
    shown = events.filter(pc.equal(events["kind"], "impression")).select(
        ["event_id", "user_id", "item_id", "request_id", "position", "at"]
    )
    shown = shown.filter(pc.is_in(shown["item_id"], items["item_id"].combine_chunks()))
    probability = np.clip([known[event] for event in shown["event_id"].to_pylist()], 1e-6, 1 - 1e-6)
    lifted = np.array([lift[item] for item in shown["item_id"].to_pylist()])
    odds = probability / (1 - probability) * np.exp(lifted)
    clicked = shown.filter(pa.array(rng.random(len(shown)) < odds / (1 + odds)))
    kinds = [
        table.drop_columns(["event_id"]).append_column("kind", pa.array([kind] * len(table)))
        for kind, table in (("impression", shown), ("click", clicked))
    ]
    pq.write_table(pa.concat_tables(kinds), folder / "events.parquet")
    pq.write_table(items, folder / "items.parquet")
    import_table(folder / "events.parquet", folder / "data", items=folder / "items.parquet", name="two editions")
    return Dataset.open(folder / "data")
