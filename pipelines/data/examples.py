"""Batches of examples for the two-tower model."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from pipelines.data.augmentation import HistoryVariation
from pipelines.data.domains import DomainItems
from pipelines.data.histories import Behaviour
from pipelines.data.positives import Positives
from pipelines.data.views import Views
from pipelines.data.window import HistoryWindow


class TrainingExamples:
    """Positives with their histories, their slates' other items and their popularity, in a new order each epoch.

    Args:
        chosen: (E,) bool, the positives to train on.
        shown_negatives: M, items of the same slate that were not clicked, drawn anew each epoch.
        max_per_user: At most this many of a user's positives an epoch: the newest, or where histories are the others,
            drawn anew each epoch.
        histories: What a positive's history is: the events "before" it, or all "others" that are trained on, in an
            order drawn anew each epoch, of which the first H count.
        dwell_power: A positive's loss counts by (1 + its dwell in seconds) to this power, so scaled that the mean over
            those whose dwell is known is 1; one of unknown dwell counts 1 (Yi et al. 2014, Beyond clicks).
        augmentation: How histories are varied, drawn anew each epoch.
        whole_catalogue: Add `read`, for a loss over all items.
        domains: Add items of each, for a domain head.
        added: More positives, which the log does not hold; no history holds them.
        item_weight: (N + 1,) float32, by which the positives of an item count, those that were added among them.
        views: Rows of the item table that stand for items; batches then say as what positives and negatives are
            embedded.
        seed: Of the order and of the draws.

    Attributes:
        rows: (P,) places of the log's positives in the interactions; of `histories` "others", how many of each user.
        positives: All that an epoch goes through, the log's first; the log's are drawn anew where `rows` says so.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        window: HistoryWindow,
        chosen: np.ndarray,
        *,
        items: int,
        batch_size: int,
        shown_negatives: int,
        max_per_user: int | None,
        seed: int,
        histories: Literal["before", "others"] = "before",
        dwell_power: float = 0.0,
        augmentation: HistoryVariation | None = None,
        whole_catalogue: bool = False,
        domains: DomainItems | None = None,
        added: Positives | None = None,
        item_weight: np.ndarray | None = None,
        views: Views | None = None,
    ) -> None:
        self.behaviour, self.window, self.domains = behaviour, window, domains
        self.histories, self.augmentation, self.whole_catalogue = histories, augmentation, whole_catalogue
        self.item_weight, self.views = item_weight, views
        self.batch_size, self.shown_negatives, self.seed = batch_size, shown_negatives, seed
        log = behaviour.interactions
        self._known = np.flatnonzero(chosen)
        # Those of user u are `_known[_of_user[u] : _of_user[u + 1]]`, since the log is in order of users.
        self._of_user = np.searchsorted(log.user[self._known], np.arange(len(log.user_offsets)))
        if max_per_user is not None:
            # Which of them does not matter where they are drawn anew, only how many.
            later = np.cumsum(chosen[::-1])[::-1] - chosen
            after_user = np.r_[np.cumsum(chosen[::-1])[::-1], 0][log.user_offsets[1:]]
            chosen = chosen & (later - after_user[log.user] < max_per_user)
        self.rows = np.flatnonzero(chosen)
        self.weight = _dwell_weights(log.dwell, self.rows, dwell_power)
        self.added = added or Positives.none()
        self.positives = self._of(self.rows)
        self._order: tuple[int, Positives] = (-1, self.positives)
        drawn, share = self._drawn()
        counts = np.bincount(log.item[drawn], share, items + 1) + np.bincount(self.added.item, minlength=items + 1)
        self.probability = (counts / max(1, counts.sum())).astype(np.float32)

    def __len__(self) -> int:
        """Batches an epoch. A last batch of one row is left out: it would have no in-batch negative."""
        whole, rest = divmod(len(self.positives), self.batch_size)
        return whole + (rest > 1)

    def batch(self, epoch: int, number: int) -> dict[str, np.ndarray]:
        """Batch `number` of an epoch; always the same for the same seed, epoch and number."""
        if self._order[0] != epoch:
            rng = np.random.default_rng((self.seed, epoch))
            positives = self._of(self._redrawn(rng)) if self.histories == "others" else self.positives
            self._order = (epoch, positives[rng.permutation(len(positives))])
        chosen = self._order[1][number * self.batch_size : (number + 1) * self.batch_size]
        batch = self._batch(chosen, np.random.default_rng((self.seed, epoch, number)))
        # Drawn on their own, so that the examples are the same with views or adaptation and without.
        if self.views is not None:
            batch |= self._seen(
                chosen, batch["shown"], self.views, np.random.default_rng((self.seed, epoch, number, 2))
            )
        return batch | (self.domains.draw(np.random.default_rng((self.seed, epoch, number, 1))) if self.domains else {})

    def _of(self, rows: np.ndarray) -> Positives:
        found = Positives.of(self.behaviour.interactions, rows, self.weight[rows]) + self.added
        return found if self.item_weight is None else replace(found, weight=found.weight * self.item_weight[found.item])

    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """The log's positives that an epoch may have (P,), and how likely each is in it."""
        if self.histories == "before":
            return self.rows, np.ones(len(self.rows))
        user = self.behaviour.interactions.user
        wanted = np.bincount(user[self.rows], minlength=len(self._of_user) - 1)
        return self._known, (wanted / np.maximum(np.diff(self._of_user), 1))[user[self._known]]

    def _redrawn(self, rng: np.random.Generator) -> np.ndarray:
        """As many positives of each user as `rows` has, any of them."""
        user = self.behaviour.interactions.user
        wanted = np.bincount(user[self.rows], minlength=len(self._of_user) - 1)
        order = np.lexsort((rng.random(len(self._known)), user[self._known]))
        place = np.arange(len(order)) - self._of_user[user[self._known]]
        return self._known[order[place < wanted[user[self._known]]]]

    def _batch(self, chosen: Positives, rng: np.random.Generator) -> dict[str, np.ndarray]:
        place, there = (
            self.window.places(chosen.user, chosen.history_end)
            if self.histories == "before"
            else self._others(chosen, rng)
        )
        # Before histories are varied, so that these are the same with augmentation and without.
        shown = np.stack([self._shown(*each, rng) for each in zip(chosen.request, chosen.item, strict=True)])
        varied = self.augmentation
        if varied is not None:
            place, there = varied.shortened(place, there, rng)
        device = self.window.device(chosen.user, chosen.history_end, chosen.device)
        batch = self.window.of_events(chosen.user, place, there, chosen.at, device)
        if varied is not None:
            batch |= varied.changed(batch, self.behaviour.interactions.at[np.where(there, place, 0)], chosen.item, rng)
        batch["positive"] = chosen.item
        batch["weight"] = chosen.weight
        if self.whole_catalogue:
            batch["read"] = self._read(chosen)
        batch["probability"] = self.probability[chosen.item]
        batch["shown"] = shown
        return batch

    def _others(self, chosen: Positives, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Places (B, H) of H other positives of each row's user, and which of them there are."""
        log = self.behaviour.interactions
        first, end = self._of_user[chosen.user], self._of_user[chosen.user + 1]
        most = int((end - first).max())
        mine = first[:, None] + np.arange(max(most, self.window.length))
        inside = mine < end[:, None]
        place = self._known[np.where(inside, mine, 0)]
        key = np.where(inside & (log.item[place] != chosen.item[:, None]), rng.random(place.shape), np.inf)
        drawn = np.argsort(key, axis=1)[:, : self.window.length]
        return np.take_along_axis(place, drawn, axis=1), np.isfinite(np.take_along_axis(key, drawn, axis=1))

    def _read(self, chosen: Positives) -> np.ndarray:
        """(B, N + 1) bool: items of each row's whole history."""
        log = self.behaviour.interactions
        if self.histories == "before":
            row, place = log.spans(log.user_offsets[chosen.user], chosen.history_end)
        else:
            row, place = log.spans(self._of_user[chosen.user], self._of_user[chosen.user + 1])
            place = self._known[place]
        read = np.zeros((len(chosen), len(self.probability)), bool)
        read[row, log.item[place]] = True
        return read

    def _seen(
        self, chosen: Positives, shown: np.ndarray, views: Views, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """As what positives and negatives are embedded."""
        found = {"view": np.where(chosen.view > 0, chosen.view, views.draw(chosen.item, rng))}
        found["shown_view"] = views.draw(shown, rng)
        if self.whole_catalogue:
            found["all_view"] = views.draw(np.arange(len(self.probability)), rng)
        return found

    def _shown(self, request: int, positive: int, rng: np.random.Generator) -> np.ndarray:
        drawn = np.zeros(self.shown_negatives, np.int32)
        if request >= 0 and self.shown_negatives:
            slate = slice(self.behaviour.requests.offsets[request], self.behaviour.requests.offsets[request + 1])
            left = self.behaviour.requests.item[slate][~self.behaviour.requests.clicked[slate]]
            left = left[(left > 0) & (left != positive)]
            left = left[np.sort(np.unique(left, return_index=True)[1])]  # an item may have been shown twice
            few = min(len(left), self.shown_negatives)
            drawn[:few] = rng.choice(left, few, replace=False)
        return drawn


def _dwell_weights(dwell: np.ndarray, rows: np.ndarray, power: float) -> np.ndarray:
    """(E,) float32 weights of positives, of which `rows` are trained on."""
    weight = np.ones(len(dwell), np.float32)
    known = dwell > 0
    if power and known[rows].any():
        raised = (1.0 + dwell) ** power
        weight[known] = (raised / raised[rows][known[rows]].mean())[known]
    return weight
