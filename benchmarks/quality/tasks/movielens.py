"""MovieLens 100K: a random quarter of each user's ratings, and each user's last rating."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.quality.held_out import held_out
from benchmarks.quality.protocol import Exam, Task, Training, View
from benchmarks.quality.sources import source
from benchmarks.quality.tasks.parts import SEED, random_share, restrict, write_part
from pipelines.data.sources.movielens import import_movielens
from pipelines.data.splits import Part, split
from pipelines.judge import CatalogueTargets
from pipelines.recipe import Split

_TEST_SHARE = 0.25


def prepare(work: Path) -> None:
    folder = source("ml100k")
    plots = folder / "items_omdb.jsonl"
    import_movielens(folder, work / "all", plots=plots if plots.exists() else None)
    view = View.load(work / "all")
    log = view.behaviour.interactions
    test = _test_quarter(view)
    users, items = log.user_ids[log.user[test]], view.catalogue.ids[log.item[test] - 1]
    write_part(work / "all", work / "random-train", set(zip(users, items, strict=True)))


def _test_quarter(view: View) -> np.ndarray:
    return random_share(view.behaviour.interactions.user, _TEST_SHARE, seed=SEED)


def load(work: Path) -> list[Task]:
    everything = View.load(work / "all")
    return [_random(everything, View.load(work / "random-train")), _last(everything)]


def _random(everything: View, known: View) -> Task:
    test = _test_quarter(everything)
    log = everything.behaviour.interactions
    if list(known.behaviour.interactions.user_ids) != list(log.user_ids):
        raise AssertionError("the training part does not hold the same users")
    among = np.ones(len(known.catalogue), bool)
    own = known.behaviour.interactions
    validation = random_share(own.user, _TEST_SHARE, seed=SEED + 1)
    rest = restrict(known, ~validation)
    fold = held_out(rest.behaviour, own.user[validation], own.item[validation] - 1, among)
    return Task(
        name="ml100k-random",
        about=(
            "MovieLens 100K, a random quarter of each user's ratings held out (seed 42); all ratings are positives; "
            "top 10 of what the user has not rated, against the set that was held out. Settings are chosen on a random "
            "quarter of the training part."
        ),
        metric="ndcg@10",
        columns=("ndcg@10", "map@10", "precision@10", "recall@10"),
        folds=((Training.of_all(rest), Exam(rest, fold)),),
        training=Training.of_all(known),
        exams={"test": Exam(known, held_out(known.behaviour, log.user[test], log.item[test] - 1, among))},
    )


def _last(view: View) -> Task:
    behaviour = view.behaviour
    parts = split(behaviour, Split(by="last"), on_requests=False).interactions
    no_requests = np.zeros(0, bool)
    return Task(
        name="ml100k-last",
        about=(
            "MovieLens 100K, each user's last rating held out, ranked among all films that the user has not rated "
            "(ratings of one second are ordered by film number); settings are chosen on the last but one."
        ),
        metric="ndcg@10",
        columns=("recall@10", "ndcg@10", "recall@100"),
        folds=(
            (
                Training(view, parts == Part.TRAIN, no_requests),
                Exam(view, CatalogueTargets.of(behaviour, view.catalogue, parts == Part.VALIDATION)),
            ),
        ),
        training=Training(view, parts != Part.TEST, no_requests),
        exams={"test": Exam(view, CatalogueTargets.of(behaviour, view.catalogue, parts == Part.TEST))},
    )
