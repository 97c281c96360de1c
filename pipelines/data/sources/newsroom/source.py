"""From a newsroom to a dataset folder."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data import clean, schema
from pipelines.data.clean import PART
from pipelines.data.delimited import ROW
from pipelines.data.importing import Import, new_import
from pipelines.data.report import ImportReport
from pipelines.data.sources.newsroom.articles import NEVER
from pipelines.data.sources.newsroom.covers import cover
from pipelines.data.sources.newsroom.events import EventTables
from pipelines.data.sources.newsroom.language import LANGUAGES, topics
from pipelines.data.sources.newsroom.readers import SEGMENTS
from pipelines.data.sources.newsroom.simulation import simulate
from pipelines.data.sources.newsroom.sizes import END, NewsroomSize
from pipelines.data.sources.newsroom.texts import Desk
from pipelines.data.sources.newsroom.world import Newsroom
from pipelines.progress import stages

TRUTH = "truth.parquet"
LICENCE = "simulated by Belfry: invented names and texts, free to use"

_BATCH = 4_096
_TRUTH_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("click_probability", pa.float32(), nullable=False),
    ]
)


def import_newsroom(
    size: str | NewsroomSize, destination: Path | str, *, seed: int = 17, name: str | None = None
) -> ImportReport:
    """Simulate a multilingual news platform and write it as a dataset.

    The same size and seed give the same files. Beside the tables stands truth.parquet: for the event_id of every
    impression, `click_probability`, the true probability that it was clicked at its position. It is for tests and
    simulations, and no column of the tables. `Newsroom.generate(size, seed)` gives the same newsroom in memory.

    Every impression carries its propensity: the probability of this item at this place, given the items above it.

    Args:
        size: small, medium or large, or counts of one's own.
        destination: The dataset folder to make, or to replace if it is a dataset.
        seed: From 0.
        name: Of the dataset; the destination's by default.

    Raises:
        BadInput: There is no such size, the seed is negative, or the destination cannot be written.

    Example:
        >>> from pipelines import Dataset, NewsroomSize, import_newsroom
        >>> size = NewsroomSize(articles=250, users=60, days=4, requests=500)
        >>> report = import_newsroom(size, "data", name="newsroom")
        >>> Dataset.open("data").info.items
        250
    """
    destination = Path(destination)
    shares = {"people and articles": 1, "texts": 1, "days": 4, "writing the tables": 4}
    with stages("newsroom", shares) as begin:
        begin("people and articles")
        newsroom = Newsroom.generate(size, seed)
        with new_import(destination) as job:
            begin("texts")
            items = _items(job, newsroom)
            begin("days")
            events = _events(job, newsroom)
            users = _users(job, newsroom)
            begin("writing the tables")
            job.finish(
                items=items,
                events=events,
                users=users,
                name=name or destination.resolve().name,
                source=f"newsroom simulator, seed {seed}",
                licence=LICENCE,
                transform_items=_Covers(newsroom),
            )
    return job.report


class _Covers:
    """Replaces an article's number in the column `image` by its cover, a batch at a time on the way to disk."""

    def __init__(self, newsroom: Newsroom) -> None:
        self.newsroom = newsroom

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        index = batch.schema.get_field_index("image")
        rows = [int.from_bytes(value, "big") for value in batch.column(index).to_pylist()]
        images = [cover(self.newsroom.articles, row, self.newsroom.seed) for row in rows]
        return batch.set_column(index, batch.schema.field(index), pa.array(images, pa.binary()))


def _items(job: Import, newsroom: Newsroom) -> ir.Table:
    articles, known = newsroom.articles, topics()
    names = articles.names.names
    texts = Desk(articles, newsroom.seed).write()
    expected = pa.schema([pa.field(ROW, pa.int64()), *schema.ITEMS])
    raw = job.engine.new_file()
    with pq.ParquetWriter(raw, expected) as writer:
        for begin in range(0, len(articles), _BATCH):
            rows = np.arange(begin, min(begin + _BATCH, len(articles)))
            titles, bodies = zip(*itertools.islice(texts, len(rows)), strict=True)
            tags = [
                [known.subtopics[subtopic], str(names[person]), str(names[organisation])]
                for subtopic, (person, _, organisation) in zip(
                    articles.subtopic[rows], articles.entities[rows, :3], strict=True
                )
            ]
            removed = articles.removed_at[rows]
            columns = {
                ROW: rows + 1,
                "item_id": articles.ids[rows],
                "title": titles,
                "body": bodies,
                "language": [LANGUAGES[place] for place in articles.language[rows]],
                "category": [known.names[place] for place in articles.topic[rows]],
                "tags": tags,
                "image": [int(row).to_bytes(8, "big") for row in rows],
                "published_at": _times(articles.published_at[rows]),
                "removed_at": _times(np.where(removed == NEVER, 0, removed), removed == NEVER),
            }
            arrays = [pa.array(columns[field.name], type=field.type) for field in expected]
            writer.write_table(pa.Table.from_arrays(arrays, schema=expected))
    return clean.items(job.engine, _part(job, raw, "items"), job.report)


def _users(job: Import, newsroom: Newsroom) -> ir.Table:
    readers = newsroom.readers
    spoken = [*LANGUAGES, None]  # -1 is the last
    raw = job.engine.new_file()
    table = pa.table(
        {
            ROW: np.arange(1, len(readers) + 1),
            "user_id": pa.array(readers.ids, pa.string()),
            "language": pa.array([spoken[place] for place in readers.language], pa.string()),
            "segment": pa.array([SEGMENTS[place] for place in readers.segment], pa.string()),
            "created_at": _times(readers.created_at),
            "second_language": pa.array([spoken[place] for place in readers.second_language], pa.string()),
        }
    )
    pq.write_table(table, raw)
    return clean.users(job.engine, _part(job, raw, "users"), job.report)


def _events(job: Import, newsroom: Newsroom) -> ir.Table:
    tables = EventTables(newsroom)
    raw = job.engine.new_file()
    with (
        pq.ParquetWriter(raw, tables.schema) as events,
        pq.ParquetWriter(job.draft / TRUTH, _TRUTH_SCHEMA, compression="zstd") as truth,
    ):
        for batch in tables.batches(simulate(newsroom)):
            events.write_table(batch.events)
            truth.write_table(batch.truth.cast(_TRUTH_SCHEMA))
    now = datetime.fromtimestamp(END, UTC)
    return clean.events(job.engine, _part(job, raw, "events"), job.report, now, has_own_ids=False)


def _part(job: Import, raw: Path, name: str) -> ir.Table:
    return job.engine.read(raw).mutate(**{PART: ibis.literal(name)})


def _times(seconds: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    return pa.array(seconds.astype(np.int64) * 1_000_000, schema.TIMESTAMP, mask=missing)
