"""The embeddings of a catalogue's items, or of its users, as a Parquet file: for an index, a cache, your own model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.artefacts import atomic_file, check_file
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput
from pipelines.model_ranker import ITEMS_AT_ONCE, item_embeddings
from pipelines.prepare import prepare_for
from pipelines.presets import fingerprint_of
from pipelines.progress import track
from pipelines.rankers import Queries
from pipelines.run import WEIGHTS, Run
from pipelines.trained import first_stage

_USERS_AT_ONCE = 4096

# In the file's metadata: the fingerprint of the weights that made it. Embeddings of different weights do not compare.
FINGERPRINT = b"belfry.weights"


def embedding_schema(run: Run, width: int, whose: str = "item_id") -> pa.Schema:
    """What the file holds, and of which run."""
    vector = pa.list_(pa.float32(), width)
    fields = [pa.field(whose, pa.string(), nullable=False), pa.field("embedding", vector, nullable=False)]
    return pa.schema(fields, {FINGERPRINT: fingerprint_of(run.folder / WEIGHTS)})


def embed(run: Run, out: Path | str, dataset: Dataset | None = None) -> int:
    """Write item_id and embedding (D float32) of every item, by item id; returns the number of items.

    The dot product with the embedding of a user (`embed_users` of an exported model) is the score of the first stage.
    Removed items are among them. Events are not read. The items' features are in memory, their embeddings only a
    batch at a time.

    Args:
        dataset: Whose items; those of the run's own by default.

    Raises:
        BadInput: `out` is not a file, or there is no item.

    Example:
        >>> from pipelines import Run, embed
        >>> embed(Run.open("run"), "items.parquet")
        250
    """
    out = check_file(Path(out))
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


def embed_users(run: Run, out: Path | str, dataset: Dataset | None = None) -> int:
    """Write user_id and embedding (D float32) of every user with a history, by user id; returns the number of users.

    An embedding is what `embed_users` of the exported model gives at the end of the dataset: the whole history, the
    device last used, and the time of the last event.

    Args:
        dataset: Whose users; those of the run's own by default.

    Raises:
        BadInput: `out` is not a file, or no user has a history.

    Example:
        >>> from pipelines import Run, embed_users
        >>> 0 < embed_users(Run.open("run"), "users.parquet") <= 60
        True
    """
    out = check_file(Path(out))
    data = dataset or run.training_data()
    prepared = prepare_for(run, data)
    log = prepared.behaviour.interactions
    users = np.flatnonzero(np.diff(log.user_offsets))
    if not len(users):
        raise BadInput(f"{data.folder} has no user with a history to embed.")
    towers = first_stage(run, prepared)
    queries = Queries(users, log.user_offsets[users + 1], np.full(len(users), prepared.end))
    schema = embedding_schema(run, towers.model.content.width, "user_id")
    blocks = list(queries.blocks(_USERS_AT_ONCE))
    with atomic_file(out) as draft, pq.ParquetWriter(draft, schema) as writer:
        for rows, block in track(blocks, "embedding", len(blocks)):
            ids = pa.array(log.user_ids[users[rows]], pa.string())
            vectors = towers.embed(block).astype(np.float32)
            values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=schema.field("embedding").type)
            writer.write_table(pa.table([ids, values], schema))
    return len(users)


def read_embeddings(path: Path | str, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Ids (N,) str and embeddings (N, D) float32 of a file that `embed` or `embed_users` wrote for this run.

    Args:
        path: A Parquet file.
        run: Whose weights made it.

    Raises:
        BadInput: It is no such file, or was made by other weights, whose embeddings do not compare.

    Example:
        >>> from pipelines import Run, embed, read_embeddings
        >>> run = Run.open("run")
        >>> rows = embed(run, "items.parquet")
        >>> ids, vectors = read_embeddings("items.parquet", run)
        >>> len(ids), vectors.shape
        (250, (250, 8))
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{path} cannot be read ({str(error).splitlines()[0][:100]}).") from None
    made_by = (table.schema.metadata or {}).get(FINGERPRINT, b"").decode()
    if table.schema.names[1:] != ["embedding"] or not made_by:
        raise BadInput(f"{path} holds no embeddings: make it with `belfry embed`.")
    if made_by != fingerprint_of(run.folder / WEIGHTS):
        raise BadInput(f"{path} was made by another model than {run.folder}: make it anew with `belfry embed`.")
    vectors = table["embedding"].combine_chunks()
    ids: np.ndarray = table.column(0).to_numpy(zero_copy_only=False).astype(object)
    return ids, vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(ids), -1)
