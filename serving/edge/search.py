"""Exact search over int8 embeddings, in the time of reading them once."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

_BLOCK = 512  # rows turned to numbers at a time, which fit into a processor's cache
_ALIGNED = 16
_MARGIN = 4  # columns of zeros, which keep rows a multiple of four
# Of the schema of LiteRT's files.
_FLOAT32, _INT8, _FULLY_CONNECTED, _FULLY_CONNECTED_OPTIONS = 0, 9, 9, 8


class ItemSearch:
    """Scores of N items for a user: the product of the user's embedding with `embedding * scale`.

    All N are scored by LiteRT's integer product, for which it rounds the user's embedding to int8. How far that can be
    from the true score is known for each item; those that may be among the best are scored again in float64. The
    answer is that of a search in float64, rounded to float32. Embeddings are in memory twice: as they are, and as
    LiteRT packs them, without which it takes twice as long where anything else runs between two searches.

    Args:
        embedding: (N, D) int8.
        scale: (N,) float32, of each row.
    """

    def __init__(self, embedding: np.ndarray, scale: np.ndarray) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._scale = scale
        count, self.width = (int(size) for size in embedding.shape)
        content, start = _product(np.pad(embedding, [(0, 0), (0, _MARGIN)]))
        # The rows are seen where they lie in the model.
        rows = np.frombuffer(content, np.int8, count * (self.width + _MARGIN), start)
        self.embedding: np.ndarray = rows.reshape(count, -1)[:, : self.width]
        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self._lock = threading.Lock()
        # Half a step of the rounding for each coordinate, with a little for float32.
        self._doubt = self._lengths() * scale * np.float32(1.001 / 255)

    def best(self, user: np.ndarray, on_offer: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows that hold the `count` best of those on offer, and maybe more, with their scores, in no order.

        Args:
            user: (D,) float32.
            on_offer: (N,) bool.
        """
        score, doubt = self._rough(user)
        score[~on_offer] = -np.inf
        count = min(count, int(np.count_nonzero(on_offer)))
        if count == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        certain = np.partition(score - doubt, len(score) - count)[len(score) - count]
        rows = np.flatnonzero((score + doubt >= certain) & on_offer)
        return rows, self.scores(user, rows)

    def scores(self, user: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(R,) float32 scores of these rows, exact but for the last rounding."""
        wide = user.astype(np.float64)
        found = np.empty(len(rows), np.float64)
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK]
            # Not `@`, which would wake the threads of BLAS, and whose sum depends on where a row stands.
            found[start : start + _BLOCK] = np.einsum("rd,d->r", self.embedding[some].astype(np.float64), wide)
        return (found * self._scale[rows]).astype(np.float32)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """(R, D) float32 embeddings."""
        return self.embedding[rows] * self._scale[rows, None]

    def _rough(self, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) scores, and how far they may be from the true ones."""
        # LiteRT's 256 steps reach from the least to the largest coordinate. Two more, on which no item depends, make
        # that a little wider than the user's: none is cut off, and a step is at most 2 / 255 of the larger one.
        reach = np.abs(user).max(initial=0.0) * np.float32(1.01)
        wide = np.zeros((1, self.width + _MARGIN), np.float32)
        wide[0, : self.width] = user
        wide[0, self.width : self.width + 2] = reach, -reach
        with self._lock:
            self._interpreter.set_tensor(0, wide)
            self._interpreter.invoke()
            product = self._interpreter.get_tensor(2)[0]
        return product * self._scale, self._doubt * reach

    def _lengths(self) -> np.ndarray:
        """(N,) float32, sums of absolute values."""
        found = np.empty(len(self.embedding), np.float32)
        for start in range(0, len(found), _BLOCK):
            block = self.embedding[start : start + _BLOCK].astype(np.int16)
            found[start : start + _BLOCK] = np.abs(block).sum(axis=1, dtype=np.int32)
        return found


def _product(embedding: np.ndarray) -> tuple[bytes, int]:
    """A LiteRT model of one operation, user (1, D) float32 times `embedding`; and where that starts in the file.

    Written by the schema's field numbers: LiteRT's generated schema takes longer to import than all else to start.
    """
    import flatbuffers

    count, width = embedding.shape
    file: Any = flatbuffers.Builder(embedding.size + 4096)

    def table(fields: int, *values: tuple[int, str, Any, Any]) -> int:
        file.StartObject(fields)
        for place, kind, value, default in values:
            getattr(file, f"Prepend{kind}Slot")(place, value, default)
        return int(file.EndObject())

    def offsets(places: list[int]) -> int:
        file.StartVector(4, len(places), 4)
        for each in reversed(places):
            file.PrependUOffsetTRelative(each)
        return int(file.EndVector())

    def whole(*values: int) -> int:
        return int(file.CreateNumpyVector(np.array(values, np.int32)))

    def tensor(name: str, shape: tuple[int, int], kind: int, buffer: int, quantised: int = 0) -> int:
        own, sizes = file.CreateString(name), whole(*shape)
        fields = [(0, "UOffsetTRelative", sizes, 0), (1, "Int8", kind, 0), (2, "Uint32", buffer, 0)]
        return table(6, *fields, (3, "UOffsetTRelative", own, 0), (4, "UOffsetTRelative", quantised, 0))

    file.StartVector(1, embedding.size, _ALIGNED)
    file.head = file.Head() - embedding.size
    file.Bytes[file.head : file.head + embedding.size] = np.ascontiguousarray(embedding).reshape(-1).view(np.uint8).data
    place_from_end = file.Offset()
    data = file.EndVector()
    buffers = offsets([table(1), table(1, (0, "UOffsetTRelative", data, 0))])
    scale = file.CreateNumpyVector(np.ones(1, np.float32))
    zero = file.CreateNumpyVector(np.zeros(1, np.int64))
    quantised = table(7, (2, "UOffsetTRelative", scale, 0), (3, "UOffsetTRelative", zero, 0))
    tensors = offsets(
        [
            tensor("user", (1, width), _FLOAT32, 0),
            tensor("items", (count, width), _INT8, 1, quantised),
            tensor("scores", (1, count), _FLOAT32, 0),
        ]
    )
    taken, given = whole(0, 1, -1), whole(2)
    options = table(4)
    operator = table(
        5,
        (1, "UOffsetTRelative", taken, 0),
        (2, "UOffsetTRelative", given, 0),
        (3, "Uint8", _FULLY_CONNECTED_OPTIONS, 0),
        (4, "UOffsetTRelative", options, 0),
    )
    operators, users = offsets([operator]), whole(0)
    graph = table(
        5,
        (0, "UOffsetTRelative", tensors, 0),
        (1, "UOffsetTRelative", users, 0),
        (2, "UOffsetTRelative", given, 0),
        (3, "UOffsetTRelative", operators, 0),
    )
    # Version 3 of the operation has a float input and int8 weights.
    code = table(4, (0, "Int8", _FULLY_CONNECTED, 0), (2, "Int32", 3, 1), (3, "Int32", _FULLY_CONNECTED, 0))
    codes, graphs = offsets([code]), offsets([graph])
    model = table(
        5,
        (0, "Uint32", 3, 0),
        (1, "UOffsetTRelative", codes, 0),
        (2, "UOffsetTRelative", graphs, 0),
        (4, "UOffsetTRelative", buffers, 0),
    )
    file.Finish(model, b"TFL3")
    content = bytes(memoryview(file.Bytes)[file.Head() :])
    return content, len(content) - place_from_end
