"""The slices that every evaluation reports: new and known users, new, head and tail items, languages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.data.catalogue import Catalogue
from pipelines.data.splits import Part
from pipelines.judge import CatalogueTargets, Slates
from pipelines.metrics import rank_metrics, slate_metrics
from pipelines.prepare import Prepared

_LANGUAGES = 12
# Of the training positives, what the head's items have.
_HEAD = 0.5


@dataclass(frozen=True)
class Slices:
    """Masks by name, over users (U,) and over rows of the item table (N + 1,)."""

    users: dict[str, np.ndarray]
    items: dict[str, np.ndarray]

    @classmethod
    def of(cls, own: Prepared, data: Prepared) -> Slices:
        """Slices of `data` as a model sees them that was trained on the training part of `own`.

        A user or item is new if that part has no positive of it. The head are the most read items that have half of the
        positives; the tail are the other known ones.
        """
        trained = own.parts.interactions == Part.TRAIN
        log = own.behaviour.interactions
        read = Counter(own.catalogue.ids[log.item[trained] - 1].tolist())
        count = np.array([0, *(read[item] for item in data.catalogue.ids)])
        users = set(log.user_ids[np.unique(log.user[trained])].tolist())
        known = np.array([user in users for user in data.behaviour.interactions.user_ids], bool)
        head = head_items(count)
        items = {"new items": count == 0, "head items": head, "tail items": (count > 0) & ~head}
        return cls({"new users": ~known, "known users": known}, items | _languages(data.catalogue))

    def of_slates(self, slates: Slates, scores: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """Metrics of the slates by slice, (R,) each and NaN elsewhere; `scores` (S,) are the ranker's.

        In a slice of items only clicks on these count, and the slate's other clicks are left out.
        """
        whole = slates.measure(scores)
        found = {}
        for name, wanted in self.users.items():
            inside = wanted[slates.queries.user]
            found[name] = {metric: np.where(inside, values, np.nan) for metric, values in whole.items()}
        for name, wanted in self.items.items():
            kept = ~slates.clicked | wanted[slates.item]
            offsets = np.r_[0, np.cumsum(kept)][slates.offsets]
            weight = None if slates.weight is None else slates.weight[kept]
            flat = (scores[kept], slates.clicked[kept], slates.tie_break[kept])
            found[name] = slate_metrics(offsets, *flat, weight=weight)
        return _measured(found)

    def of_ranks(self, targets: CatalogueTargets, ranks: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """Metrics of the queries against the catalogue by slice, (Q,) each and NaN elsewhere."""
        whole = rank_metrics(ranks)
        inside = {name: wanted[targets.queries.user] for name, wanted in self.users.items()}
        inside |= {name: wanted[targets.target + 1] for name, wanted in self.items.items()}
        return _measured(
            {
                name: {metric: np.where(mask, values, np.nan) for metric, values in whole.items()}
                for name, mask in inside.items()
            }
        )


def head_items(count: np.ndarray, share: float = _HEAD) -> np.ndarray:
    """(N + 1,) bool: the most read items, by positives (N + 1,), that together have a share of all positives."""
    order = np.argsort(-count, kind="stable")
    before = np.empty(len(count), np.int64)
    before[order] = np.cumsum(count[order]) - count[order]
    return (count > 0) & (before < share * count.sum())


def _languages(catalogue: Catalogue) -> dict[str, np.ndarray]:
    """The most frequent languages of the items, where there are two."""
    counts = Counter(language for language in catalogue.language if language)
    if len(counts) < 2:
        return {}
    named = [name for name, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:_LANGUAGES]]
    return {f"language {name}": np.r_[False, catalogue.language == name] for name in named}


def _measured(slices: Mapping[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """Without the slices in which nothing was measured."""
    return {name: metrics for name, metrics in slices.items() if np.isfinite(next(iter(metrics.values()))).any()}
