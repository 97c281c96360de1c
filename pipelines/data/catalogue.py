"""The items of a dataset as arrays, in the order that every index and file uses: by item id."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.data import schema
from pipelines.data.dataset import Dataset
from pipelines.data.item_images import ItemImages

_LONG_AGO, _NEVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True)
class Catalogue:
    """N items. Row 0 of every model-side array is padding and unknown, so item i here is row i + 1 there.

    Removed items are among them, because histories hold them; `on_offer` says what can be recommended when. Strings
    are "" where the dataset has none. `published_at` and `removed_at` are in seconds since 1970, the smallest and the
    largest integer where they are not known, or where the events have no times that they could be compared with.
    """

    ids: np.ndarray
    title: np.ndarray
    body: np.ndarray
    language: np.ndarray
    category: np.ndarray
    tags: np.ndarray  # of lists
    published_at: np.ndarray
    removed_at: np.ndarray
    images: ItemImages

    @classmethod
    def load(cls, dataset: Dataset) -> Catalogue:
        """Read a dataset's items.

        Raises:
            BadInput: The file is broken.
        """
        columns = ["item_id", "title", "body", "language", "category", "tags", "published_at", "removed_at"]
        try:
            table = pq.read_table(dataset.items, columns=columns)
        except (OSError, pa.ArrowException):
            dataset.verify()
            raise
        table = table.sort_by("item_id")
        if dataset.info.clock == "utc":
            published = schema.whole_seconds(table["published_at"], unknown=_LONG_AGO)
            removed = schema.whole_seconds(table["removed_at"], unknown=_NEVER)
        else:
            # The events have no times to compare with: everything is published, and what has been removed is gone.
            published = np.full(len(table), _LONG_AGO)
            removed = np.where(pc.is_null(table["removed_at"]).to_numpy(), _NEVER, _LONG_AGO)
        ids = _strings(table["item_id"])
        return cls(
            ids,
            _strings(table["title"]),
            _strings(table["body"]),
            _strings(table["language"]),
            _strings(table["category"]),
            _lists(table["tags"]),
            published,
            removed,
            ItemImages(dataset.items, ids),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def on_offer(self, at: np.ndarray | int, *, published_by: int | None = None) -> np.ndarray:
        """(..., N) bool: which items are published and not removed at the moments `at` (...).

        Args:
            published_by: The moment that counts for publication, where it is another: what is recommended today may
                be newer than the last event of the log, but an embargo holds.
        """
        moment = np.asarray(at)[..., None]
        return (self.published_at <= (moment if published_by is None else published_by)) & (moment < self.removed_at)

    def texts(self, fields: str) -> list[np.ndarray]:
        """What the text encoder reads of each item, (N,) for every field of a recipe's `features.text.fields`."""
        if fields == "joined":
            return [self.text]
        title, body = (np.array([text.strip() for text in texts], object) for texts in (self.title, self.body))
        return [title] if fields == "title" else [title, body]

    @cached_property
    def text(self) -> np.ndarray:
        """What the text encoder reads of each item; the same rule as `towers.text.join_fields`."""
        return np.array([f"{t} {b}".strip() for t, b in zip(self.title, self.body, strict=True)], dtype=object)


def vocabulary(values: np.ndarray) -> list[str]:
    """The distinct known values, sorted; place i of the list is index i + 1 in a model.

    Empty where there is only one: what everything shares tells nothing apart, and would only be one more thing to fit.
    """
    distinct = sorted({str(value) for value in values if value})
    return distinct if len(distinct) > 1 else []


def places(values: np.ndarray, vocabulary: list[str]) -> np.ndarray:
    """Index of each value in `vocabulary`, from 1; 0 for what is not in it. Int32, with a leading 0 for row 0."""
    index = {value: place for place, value in enumerate(vocabulary, start=1)}
    return np.array([0, *(index.get(value, 0) for value in values)], dtype=np.int32)


def common(lists: np.ndarray, *, at_least: int = 2, most: int = 20_000) -> list[str]:
    """The values that stand in at least so many of `lists`, at most so many of them, the most frequent first."""
    counts = Counter(value for values in lists for value in dict.fromkeys(values) if value)
    found = [value for value, count in counts.items() if count >= at_least]
    return sorted(found, key=lambda value: (-counts[value], value))[:most]


def list_places(lists: np.ndarray, vocabulary: list[str], length: int) -> np.ndarray:
    """(N + 1, length) int32: the index of the first `length` values of each list that are in `vocabulary`, from 1.

    Padding is 0, and so is row 0.
    """
    index = {value: place for place, value in enumerate(vocabulary, start=1)}
    found = np.zeros((len(lists) + 1, length), np.int32)
    for row, values in enumerate(lists, start=1):
        known = [index[value] for value in dict.fromkeys(values) if value in index][:length]
        found[row, : len(known)] = known
    return found


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(column, "").to_numpy(zero_copy_only=False).astype(object)


def _lists(column: pa.ChunkedArray) -> np.ndarray:
    lists = np.empty(len(column), dtype=object)
    lists[:] = [[value for value in values or [] if value] for values in column.to_pylist()]
    return lists
