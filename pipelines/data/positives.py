"""What a model is trained on: who wanted what, and when."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from pipelines.data.histories import Interactions


@dataclass(frozen=True)
class Positives:
    """P positives. The log holds most; others are added to it, for training alone.

    A positive is predicted from the history of `user` up to `history_end`, as asked for at `at` on `device`.
    """

    user: np.ndarray  # (P,) place in Interactions.user_ids
    history_end: np.ndarray  # (P,) end of the user's history in the interactions
    at: np.ndarray  # (P,) seconds since 1970
    device: np.ndarray  # (P,) str, "" for unknown
    request: np.ndarray  # (P,) place in the requests, whose other items are negatives; -1 for none
    item: np.ndarray  # (P,) int32 row of the catalogue + 1
    weight: np.ndarray  # (P,) float32, by which its loss counts
    view: np.ndarray  # (P,) int32 row of the item table, one of `Views`, as which it is embedded; 0 for as itself

    @classmethod
    def of(cls, log: Interactions, rows: np.ndarray, weight: np.ndarray | None = None) -> Positives:
        """The log's positives at `rows` (P,); without a weight (P,) each counts 1."""
        return cls(
            log.user[rows],
            log.history_end[rows],
            log.at[rows],
            log.device[rows],
            log.request[rows],
            log.item[rows].astype(np.int32),
            np.ones(len(rows), np.float32) if weight is None else weight,
            np.zeros(len(rows), np.int32),
        )

    @classmethod
    def none(cls) -> Positives:
        """No positive."""
        whole, row = np.zeros(0, np.int64), np.zeros(0, np.int32)
        return cls(whole, whole, whole, np.zeros(0, str), whole, row, np.zeros(0, np.float32), row)

    def __len__(self) -> int:
        return len(self.item)

    def __getitem__(self, places: slice | np.ndarray) -> Positives:
        return Positives(*(getattr(self, each.name)[places] for each in fields(self)))

    def __add__(self, other: Positives) -> Positives:
        """Both, one after the other."""
        if not len(other):
            return self
        return Positives(
            *(np.concatenate([getattr(self, each.name), getattr(other, each.name)]) for each in fields(self))
        )
