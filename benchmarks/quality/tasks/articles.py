"""Articles of an online community: one article of each user held out, and articles that nobody has read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.quality.held_out import HeldOut, held_out
from benchmarks.quality.protocol import Exam, Task, Training, View
from benchmarks.quality.sources import source
from benchmarks.quality.tasks.parts import SEED, restrict, write_part
from pipelines.data.sources.table import import_table

_FEWEST = 5
_NEW_SHARE = 0.1


def prepare(work: Path) -> None:
    folder = source("ibm-articles")
    table = one_of_each_group(
        pd.read_csv(folder / "interactions.csv", dtype={"user_id": str, "article_id": str}),
        pd.read_csv(folder / "user_groups.csv", dtype=str),
    )
    work.mkdir(parents=True, exist_ok=True)
    table.to_csv(work / "clicks.csv", index=False)
    import_table(work / "clicks.csv", work / "all", columns={"item_id": "article_id"}, language="en")
    view = View.load(work / "all")
    write_part(work / "all", work / "one-out", _names(view, _one_each(view, seed=SEED)))
    write_part(work / "all", work / "new-out", _names(view, _of_new(view)))


def one_of_each_group(clicks: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Keep the first user of each group of near-duplicates, and one row of each user and article.

    Nearly every active user is in the file twice; a split that does not know it rewards finding the twin.
    """
    group = clicks["user_id"].map(dict(zip(groups["user_id"], groups["group"], strict=True)))
    first = clicks.assign(group=group).groupby("group")["user_id"].transform("first")
    kept = clicks[group.isna() | (clicks["user_id"] == first)]
    return kept.drop_duplicates(["user_id", "article_id"])


def load(work: Path) -> list[Task]:
    everything = View.load(work / "all")
    return [_known(everything, View.load(work / "one-out")), _new(everything, View.load(work / "new-out"))]


def _one_each(view: View, *, seed: int) -> np.ndarray:
    """(E,) bool: one random positive of each user with five or more."""
    log = view.behaviour.interactions
    drawn = np.random.default_rng(seed).random(len(log))
    best = np.full(len(log.user_ids), -1.0)
    np.maximum.at(best, log.user, drawn)
    return (drawn == best[log.user]) & (np.diff(log.user_offsets)[log.user] >= _FEWEST)


def _new_items(view: View, *, seed: int = SEED, old: np.ndarray | None = None) -> np.ndarray:
    """(N,) bool: a random tenth of the articles, or of those that are `old`."""
    drawn = np.random.default_rng(seed).random(len(view.catalogue)) < _NEW_SHARE
    return drawn if old is None else drawn & old


def _of_new(view: View) -> np.ndarray:
    return _new_items(view)[view.behaviour.interactions.item - 1]


def _names(view: View, chosen: np.ndarray) -> set[tuple[str, str]]:
    log = view.behaviour.interactions
    return set(zip(log.user_ids[log.user[chosen]], view.catalogue.ids[log.item[chosen] - 1], strict=True))


def _known(everything: View, known: View) -> Task:
    test, log = _one_each(everything, seed=SEED), everything.behaviour.interactions
    among = np.ones(len(known.catalogue), bool)
    own = known.behaviour.interactions
    validation = _one_each(known, seed=SEED + 1)
    rest = restrict(known, ~validation)
    return Task(
        name="ibm",
        about=(
            "Articles of an online community (one user kept of each group of near-duplicates), one random article held "
            "out of each user with five or more, ranked among all that the user has not read; settings are chosen on "
            "another such article."
        ),
        metric="ndcg@10",
        columns=("ndcg@10", "hr@10", "hr@100"),
        folds=(
            (Training.of_all(rest), Exam(rest, _held(rest, own.user[validation], own.item[validation] - 1, among))),
        ),
        training=Training.of_all(known),
        exams={"test": Exam(known, _held(known, _users(known, everything, log.user[test]), log.item[test] - 1, among))},
    )


def _new(everything: View, known: View) -> Task:
    log, own = everything.behaviour.interactions, known.behaviour.interactions
    new = _new_items(everything)
    also_new = _new_items(known, seed=SEED + 1, old=~new)
    validation = also_new[own.item - 1]
    rest = restrict(known, ~validation)
    test = _of_new(everything)
    user, item = _users(known, everything, log.user[test]), log.item[test] - 1
    asked = user >= 0  # a user who has read new articles only has no history left
    return Task(
        name="ibm-new",
        about=(
            "The same articles; a random tenth of them was removed from training, and each user's articles of that "
            "tenth are ranked among it alone: items without any interaction. Settings are chosen on another tenth."
        ),
        metric="ndcg@10",
        columns=("ndcg@10", "recall@10", "hr@10"),
        folds=(
            (Training.of_all(rest), Exam(rest, _held(rest, own.user[validation], own.item[validation] - 1, also_new))),
        ),
        training=Training.of_all(known),
        exams={"test": Exam(known, _held(known, user[asked], item[asked], new))},
    )


def _held(view: View, user: np.ndarray, item: np.ndarray, among: np.ndarray) -> HeldOut:
    return held_out(view.behaviour, user, item, among)


def _users(known: View, everything: View, user: np.ndarray) -> np.ndarray:
    place = {name: row for row, name in enumerate(known.behaviour.interactions.user_ids)}
    return np.array([place.get(name, -1) for name in everything.behaviour.interactions.user_ids[user]], dtype=np.int64)
