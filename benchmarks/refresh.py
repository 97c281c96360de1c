"""A new index without training: 100 thousand items of 384 dimensions, then 100 new ones among them and 100 gone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.commands import BELFRY, measure
from pipelines.data.dataset import Dataset, new_dataset, write_info

ITEMS, CHANGED = 100_000, 100
# Texts would take minutes to encode the first time; what is measured is the rest.
RECIPE = """
data: {split: {by: time, validation: 0.1, test: 0.1}}
features: {text: null, history: 30}
towers: {width: 384, history_encoder: mean}
training: {epochs: 1, batch_size: 256}
"""


def run() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["BELFRY_CACHE"] = str(folder / "cache")
        measure(BELFRY, "data", "import", "newsroom", "small", folder / "small")
        (folder / "recipe.yaml").write_text(RECIPE)
        measure(BELFRY, "train", folder / "recipe.yaml", "--data", folder / "small", "--out", folder / "run")
        small = Dataset.open(folder / "small")
        items = pq.read_table(small.items)
        many = pa.concat_tables([items, *_copies(items, ITEMS - len(items), "copy")]).slice(0, ITEMS)
        _write(folder / "first", small, many)
        fresh = next(iter(_copies(items, CHANGED, "new"))).slice(0, CHANGED)
        _write(folder / "second", small, pa.concat_tables([many.slice(CHANGED), fresh]))
        print(f"{'index':34}{'seconds':>9}{'peak MiB':>10}{'on disk MiB':>13}")
        for number, (name, what) in enumerate(
            (("first", f"{ITEMS:,} items"), ("second", f"{CHANGED} new, {CHANGED} gone"))
        ):
            measured = measure(*(BELFRY, "export", folder / "run", "--to", folder / "model", "--data", folder / name))
            version = folder / "model" / str(number + 1)
            disk = sum(path.stat().st_size for path in version.rglob("*") if path.is_file()) / 2**20
            print(f"{what:34}{measured.seconds:>9.1f}{measured.peak_mib:>10.0f}{disk:>13.0f}", flush=True)


def _copies(items: pa.Table, count: int, name: str) -> list[pa.Table]:
    """The items again under other ids, as often as `count` needs."""
    place = items.schema.get_field_index("item_id")
    return [
        items.set_column(
            place, items.schema.field("item_id"), pc.binary_join_element_wise(items["item_id"], f"{name}{number}", "-")
        )
        for number in range(-(-count // len(items)))
    ]


def _write(folder: Path, source: Dataset, items: pa.Table) -> None:
    with new_dataset(folder) as draft:
        pq.write_table(items.cast(pq.read_schema(source.items)), draft / "items.parquet")
        for path in (source.events, source.folder / "users.parquet"):
            (draft / path.name).write_bytes(path.read_bytes())
        write_info(draft, source.info.model_copy(update={"items": len(items)}))
