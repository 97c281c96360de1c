"""Images of items, read from their files only while a dataset is written, a few at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipelines.data.report import TableCount

MAX_BYTES = 10_000_000
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


@dataclass(frozen=True)
class ImageReader:
    """Turns the paths in the column `image` of a batch of items into images, and notes each one that is left out.

    Attributes:
        folder: What paths are relative to, and what they must not lead out of.
        count: Gets the notes.
    """

    folder: Path
    count: TableCount

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        index = batch.schema.get_field_index("image")
        images = [None if value is None else self._image(value) for value in batch.column(index).to_pylist()]
        return batch.set_column(index, batch.schema.field(index), pa.array(images, pa.binary()))

    def _image(self, value: bytes) -> bytes | None:
        image = self._read(self.folder, value.decode())
        if image is None:
            return None
        if len(image) > MAX_BYTES:
            self.count.note(f"image larger than {MAX_BYTES // 1_000_000} MB; left out")
        elif not image.startswith(_SIGNATURES):
            self.count.note("image is neither JPEG nor PNG; left out")
        else:
            return image
        return None

    def _read(self, folder: Path, name: str) -> bytes | None:
        if not name.strip():
            return None
        if "://" in name:
            self.count.note("image is a URL, which is not fetched")
            return None
        try:
            path = (folder / name).resolve()
            if not path.is_relative_to(folder.resolve()):
                self.count.note("image path leads out of the folder of the items file; left out")
                return None
            with path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except (OSError, ValueError):  # ValueError: a NUL in the path
            self.count.note("image file is missing or unreadable")
            return None
