"""The items of a bundle: columns read from `items.npz`, row by row sorted by id."""

from __future__ import annotations

import itertools
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.edge.errors import BadBundle
from serving.edge.float_search import FloatSearch
from serving.edge.search import ItemSearch


@dataclass(frozen=True)
class Items:
    """N items.

    Args:
        ids: (N,) sorted.
        place: Row by id.
        search: Over their embeddings.
        on_offer: (N,) bool.
        category: (N,) int32, 0 for unknown.
        tags: (N, T) int32, 0 for none.
        appeal, clicks, click_rate: (N,) float32.
        published_at: (N,) int64 seconds since 1970, 0 for unknown.
    """

    ids: list[str]
    place: dict[str, int]
    search: ItemSearch | FloatSearch
    on_offer: np.ndarray
    category: np.ndarray
    tags: np.ndarray
    appeal: np.ndarray
    clicks: np.ndarray
    click_rate: np.ndarray
    published_at: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def read_items(path: Path, *, width: int, tags_kept: int, sizes: dict[str, int]) -> Items:
    """Read and check `items.npz`: embeddings in int8 with a scale for each row, or in float32.

    Args:
        width: D.
        tags_kept: T.
        sizes: Of the vocabularies of `category` and `tags`.

    Raises:
        BadBundle: A column is missing, of another shape or type, or holds what cannot be.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadBundle(f"{path} is not a file of arrays ({error}).") from None
    if "id_offsets" not in columns or columns["id_offsets"].ndim != 1 or len(columns["id_offsets"]) < 2:
        raise BadBundle(f"{path} has no items.")
    count, quantised = len(columns["id_offsets"]) - 1, "scale" in columns
    expected: dict[str, tuple[tuple[int, ...], type]] = {
        "ids": ((-1,), np.uint8),
        "id_offsets": ((count + 1,), np.int64),
        "embedding": ((count, width), np.int8 if quantised else np.float32),
        **({"scale": ((count,), np.float32)} if quantised else {}),
        "on_offer": ((count,), np.bool_),
        "category": ((count,), np.int32),
        "tags": ((count, tags_kept), np.int32),
        **dict.fromkeys(("appeal", "clicks", "click_rate"), ((count,), np.float32)),
        "published_at": ((count,), np.int64),
    }
    for name, (shape, kind) in expected.items():
        column = columns.get(name)
        if column is None:
            raise BadBundle(f"{path} has no column {name}.")
        if column.dtype != kind or column.ndim != len(shape) or (shape[0] >= 0 and column.shape != shape):
            raise BadBundle(
                f"{path} has a column {name} of {column.dtype} {column.shape}, where the manifest and the number of "
                f"ids imply {np.dtype(kind)} {shape}."
            )
    for name in ("embedding", "scale", "appeal", "clicks", "click_rate"):
        if name in columns and not np.isfinite(columns[name]).all():
            raise BadBundle(f"{path} has values in {name} that are no numbers.")
    for name, size in sizes.items():
        if columns[name].min() < 0 or columns[name].max() > size:
            raise BadBundle(f"{path} has a {name} that the vocabulary does not.")
    if quantised and (columns["scale"] < 0).any():
        raise BadBundle(f"{path} has a scale below 0.")
    ids = _ids(path, columns["ids"], columns["id_offsets"])
    embedding = columns.pop("embedding")
    search = ItemSearch(embedding, columns["scale"]) if quantised else FloatSearch(embedding)
    rest = ("on_offer", "category", "tags", "appeal", "clicks", "click_rate", "published_at")
    return Items(ids, {item: row for row, item in enumerate(ids)}, search, *(columns[name] for name in rest))


def _ids(path: Path, letters: np.ndarray, offsets: np.ndarray) -> list[str]:
    if offsets[0] != 0 or offsets[-1] != len(letters) or (np.diff(offsets) <= 0).any():
        raise BadBundle(f"{path} has ids whose ends do not fit, or that are empty.")
    raw, ends = letters.tobytes(), offsets.tolist()
    try:
        ids = [raw[start:end].decode() for start, end in itertools.pairwise(ends)]
    except UnicodeDecodeError:
        raise BadBundle(f"{path} has ids that are not UTF-8.") from None
    if any(first >= second for first, second in itertools.pairwise(ids)):
        raise BadBundle(f"{path} has ids that are not sorted, or twice.")
    return ids
