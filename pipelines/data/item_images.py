"""The images of a dataset's items, read a few at a time: all at once they may not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

_AT_ONCE = 64


@dataclass(frozen=True)
class ItemImages:
    """Encoded images by row of the catalogue; most items may have none.

    Attributes:
        path: The dataset's items file.
        ids: (N,) the catalogue's ids, whose row is their place here + 1.
    """

    path: Path
    ids: np.ndarray

    def blocks(self) -> Iterator[tuple[np.ndarray, list[bytes]]]:
        """Rows from 1 of the items that have an image, and their images; every time in the same order."""
        place = {item: row for row, item in enumerate(self.ids, start=1)}
        for batch in pq.ParquetFile(self.path).iter_batches(_AT_ONCE, columns=["item_id", "image"]):
            ids, images = batch.column("item_id").to_pylist(), batch.column("image").to_pylist()
            found = [(place[item], image) for item, image in zip(ids, images, strict=True) if image]
            if found:
                yield np.array([row for row, _ in found]), [image for _, image in found]

    def of(self, rows: np.ndarray) -> list[bytes]:
        """The images of `rows`, b"" where there is none."""
        wanted = {int(row): b"" for row in rows}
        for found, images in self.blocks():
            wanted |= {row: image for row, image in zip(found.tolist(), images, strict=True) if row in wanted}
        return [wanted[int(row)] for row in rows]
