"""The embeddings of a catalogue's items, computed by Spark's workers.

Each task embeds its share of the items with the run that it loads from the run's folder, which must be under the same
path on all machines, as the dataset must, and Belfry (`belfry[train,spark]`) must be installed there.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import PythonException

from pipelines.artefacts import atomic_file, check_file
from pipelines.data import schema
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset, DatasetInfo
from pipelines.data.spark import spark_session
from pipelines.embeddings import embedding_schema
from pipelines.errors import BadInput
from pipelines.model_ranker import item_embeddings
from pipelines.presets import fingerprint_of
from pipelines.run import WEIGHTS, Run

# A task builds a model over its items; their features are in its memory.
_ITEMS_A_TASK = 50_000
_FOUND = "item_id string, embedding array<float>"


def embed_on_spark(run: Run, out: Path, dataset: Dataset | None = None, *, master: str) -> int:
    """The same file as `pipelines.embeddings.embed` writes, by the workers of `master`; returns the number of items.

    All embeddings pass through the driver's memory, 4 D bytes an item.

    Raises:
        BadInput: As there; the master does not answer; or a worker does not see the run.
    """
    check_file(out)
    data = dataset or run.training_data()
    if not data.info.items:
        raise BadInput(f"{data.folder} has no item to embed.")
    work = partial(
        _embed_share,
        run_folder=str(run.folder.resolve()),
        weights=fingerprint_of(run.folder / WEIGHTS),
        info=data.info.model_dump_json(),
    )
    with tempfile.TemporaryDirectory() as folder, spark_session(Path(folder), master) as session:
        tasks = max(session.sparkContext.defaultParallelism, -(-data.info.items // _ITEMS_A_TASK))
        items = session.read.parquet(data.items.resolve().as_uri()).select(*schema.ITEMS.names)
        shares = items.repartitionByRange(tasks, "item_id").sortWithinPartitions("item_id")
        try:
            found = shares.mapInArrow(work, _FOUND).toArrow()
        except PythonException as error:
            told = re.search(r"pipelines\.errors\.BadInput: (.+)", str(error))
            if told is None:
                raise
            raise BadInput(f"On a Spark worker: {told[1]}") from None
    vectors = found["embedding"].combine_chunks()
    if not len(vectors):
        raise BadInput(f"{data.folder} has no item to embed.")
    expected = embedding_schema(run, len(vectors[0]))
    fixed = pa.FixedSizeListArray.from_arrays(vectors.flatten(), type=expected.field("embedding").type)
    with atomic_file(out) as draft:
        pq.write_table(pa.table([found["item_id"], fixed], expected), draft)
    return len(fixed)


def _embed_share(
    batches: Iterator[pa.RecordBatch], *, run_folder: str, weights: str, info: str
) -> Iterator[pa.RecordBatch]:
    """In a worker: rows of items.parquet, by item id, to their embeddings."""
    with tempfile.TemporaryDirectory() as folder:
        # Of the same form as a dataset, so that all else is as it is locally.
        share = Dataset(Path(folder), DatasetInfo.model_validate_json(info))
        rows = 0
        with pq.ParquetWriter(share.items, schema.ITEMS) as writer:
            for batch in batches:
                writer.write_table(pa.Table.from_batches([batch]).cast(schema.ITEMS))
                rows += batch.num_rows
        if not rows:
            return
        run = Run.open(run_folder)
        if fingerprint_of(run.folder / WEIGHTS) != weights:
            raise BadInput(f"{run_folder} holds another run than on the driver: share the folder with the workers.")
        catalogue = Catalogue.load(share)
        done = 0
        for block in item_embeddings(run.model(catalogue)):
            ids = pa.array(catalogue.ids[done : done + len(block)], pa.string())
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), block.shape[1])
            yield pa.RecordBatch.from_arrays([ids, values.cast(pa.list_(pa.float32()))], ["item_id", "embedding"])
            done += len(block)
