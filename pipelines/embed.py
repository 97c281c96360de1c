"""The embeddings of a catalogue's items as a Parquet file, for an index or a model of one's own."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.artefacts import atomic_file, check_file
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.model_ranker import ITEMS_AT_ONCE, item_embeddings
from pipelines.presets import fingerprint_of
from pipelines.progress import track
from pipelines.run import WEIGHTS, Run

# In the file's metadata: the fingerprint of the weights that made it. Embeddings of different weights do not compare.
FINGERPRINT = b"belfry.weights"


def embedding_schema(run: Run, width: int) -> pa.Schema:
    """What the file holds, and of which run."""
    vector = pa.list_(pa.float32(), width)
    fields = [pa.field("item_id", pa.string(), nullable=False), pa.field("embedding", vector, nullable=False)]
    return pa.schema(fields, {FINGERPRINT: fingerprint_of(run.folder / WEIGHTS)})


def embed(run: Run, out: Path, dataset: Dataset | None = None) -> int:
    """Write item_id and embedding (D float32) of every item, by item id; returns the number of items.

    The dot product with the embedding of a user (`embed_users` of an exported model) is the score of the first stage.
    Removed items are among them. Events are not read. The items' features are in memory, their embeddings only a
    batch at a time.

    Args:
        dataset: Whose items; those of the run's own by default.

    Raises:
        BadInput: `out` is not a file, or there is no item.
    """
    check_file(out)
    data = dataset or run.training_data()
    catalogue = Catalogue.load(data)
    if not len(catalogue):
        raise BadInput(f"{data.folder} has no item to embed.")
    model = run.model(catalogue)
    schema = embedding_schema(run, model.content.width)
    done, blocks = 0, -(-len(catalogue) // ITEMS_AT_ONCE)
    with atomic_file(out) as draft, pq.ParquetWriter(draft, schema) as writer:
        for block in track(item_embeddings(model), "embedding", blocks):
            ids = pa.array(catalogue.ids[done : done + len(block)], pa.string())
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), type=schema.field("embedding").type)
            writer.write_table(pa.table([ids, values], schema))
            done += len(block)
    return done
