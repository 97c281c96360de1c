"""Real histories and items, on which a conversion is calibrated and judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.catalogue import Catalogue, list_places, places
from pipelines.data.dataset import Dataset
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.judge import CatalogueTargets, unseen
from pipelines.prepare import Prepared, prepare, prepare_for
from pipelines.quantisation.facts import EdgeFacts
from pipelines.quantisation.index import Index
from pipelines.quantisation.recommend import SIGNALS
from pipelines.recipe import Recipe
from pipelines.run import Origin, Run

REPRESENTATIVE = 128


@dataclass(frozen=True)
class Histories:
    """Q moments at which a user read an item that was new to them, in time; with what was on offer.

    Args:
        batch: What the query tower takes, (Q, H) and (Q,); `history` are rows of the index.
        target: (Q,) the row of the item that was read.
        part: Which part of the dataset they are of.
    """

    targets: CatalogueTargets
    batch: dict[str, np.ndarray]
    target: np.ndarray
    place: np.ndarray
    index: Index
    part: str

    def __len__(self) -> int:
        return len(self.target)

    def row(self, query: int) -> dict[str, np.ndarray]:
        return {name: values[query] for name, values in self.batch.items()}

    def allowed(self, query: int) -> np.ndarray:
        """(N + 1,) bool: on offer at that moment, and not in the history."""
        targets, one = self.targets, self.targets.queries[query : query + 1]
        offered = targets.catalogue.on_offer(one.at) & unseen(targets.behaviour, one, len(targets.catalogue))
        found = np.zeros(len(self.index.ids) + 1, bool)
        found[self.place[1:][offered[0]]] = True
        found[self.target[query]] = True
        found[0] = False
        return found


def real_histories(
    version: Path, manifest: dict[str, Any], facts: EdgeFacts, index: Index, dataset: Dataset, most: int
) -> tuple[Histories, Histories, Catalogue]:
    """Histories to judge on, others to calibrate with, and the catalogue that they are of.

    Of the dataset that the model was trained on they are of its test part, where it has one.

    Raises:
        BadInput: No user has read an item of the index.
    """
    recipe = Recipe.model_validate(manifest["recipe"])
    run = Run(version, recipe, facts.vocabulary, Origin.model_validate(manifest["trained_on"]))
    data, part, chosen = prepare_for(run, dataset), "all", None
    if run.was_trained_on(dataset):
        test = prepare(dataset, recipe).parts.interactions == Part.TEST
        if len(test) == len(data.behaviour.interactions) and test.any():
            part, chosen = "test", test
    place = np.r_[0, places(data.catalogue.ids, index.ids)[1:]].astype(np.int32)
    everything = np.ones(len(data.behaviour.interactions), bool)
    judged = _histories(data, everything if chosen is None else chosen, index, place, part, most, seed=0)
    # With no other part the two overlap; ranges of activations are not fitted to answers.
    other = everything if chosen is None else ~chosen
    calibrating = _histories(data, other, index, place, "", REPRESENTATIVE, seed=1)
    if not len(judged) or not len(calibrating):
        raise BadInput(f"{dataset.folder} has no history that ends in an item of {version}: name another with --data.")
    return judged, calibrating, data.catalogue


def _histories(
    data: Prepared, chosen: np.ndarray, index: Index, place: np.ndarray, part: str, most: int, seed: int
) -> Histories:
    chosen = chosen & (place[data.behaviour.interactions.item] > 0)
    targets = CatalogueTargets.of(data.behaviour, data.catalogue, chosen, most=most, seed=seed)
    queries = targets.queries
    batch = data.window.batch(queries.user, queries.history_end, queries.at, queries.device)
    # Events of items that the index does not know are no events, as in the served graph.
    history = place[batch["history"]]
    order = np.argsort(history == 0, axis=1, kind="stable")
    there = np.take_along_axis(history, order, axis=1) > 0
    for name in SIGNALS:
        batch[name] = np.take_along_axis(batch[name], order, axis=1) * there
    batch["history"] = np.take_along_axis(history, order, axis=1)
    return Histories(targets, batch, place[targets.target + 1], place, index, part)


def item_inputs(loaded: Any, facts: EdgeFacts, catalogue: Catalogue, rows: np.ndarray) -> list[dict[str, np.ndarray]]:
    """The content tower's inputs of `rows` (I,) of a catalogue, from 0."""
    words = facts.vocabulary
    columns = {"tags": list_places(catalogue.tags[rows], words.tags, facts.tags_kept)[1:]}
    for name, values, known in (
        ("category", catalogue.category, words.categories),
        ("language", catalogue.language, words.languages),
        ("item", catalogue.ids, words.items),
    ):
        columns[name] = places(values[rows], known)[1:].astype(np.int32)
    text = {}
    if facts.text is not None:
        from towers.runtime import tf

        title, body = (
            tf.constant([str(each) for each in values[rows]]) for values in (catalogue.title, catalogue.body)
        )
        text = {name: value.numpy() for name, value in loaded.edge.tokens(title=title, body=body).items()}
    return [
        {name: values[row] for name, values in text.items()}
        | {name: values[row : row + 1] for name, values in columns.items()}
        for row in range(len(rows))
    ]


def spread(rows: int, most: int) -> np.ndarray:
    """At most `most` of the numbers below `rows`, evenly."""
    return np.unique(np.linspace(0, rows - 1, min(most, rows)).astype(int))
