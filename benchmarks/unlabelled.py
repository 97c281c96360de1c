"""What learning from what is not labelled is worth: pseudo-labels, and active learning, on and off.

On the newsroom simulator and on MIND (`BELFRY_DATA` names the folder with `mind-mini`), the towers alone. The answers
of a share of the training requests are hidden, so that the truth is known.

Pseudo-labels: as many as there are labels, the surest, at half their weight. Beside the model without them stand the
student, whatever validation says of it; what `self_training` keeps of the two; and a control, which has as many labels
on the same requests, drawn at random from what these showed: more steps alone may help too.

Active learning: a model that knows few answers chooses whose to ask for next, by the users of whom it is least sure
(all requests of each) or by the items (the requests that showed them); at random is what it must beat. The budget in
requests is the same for all. Every model is judged with the whole histories, so that what is compared is what was
learned.

Differences are paired by test request, the mean over several draws of what is hidden, with 95 % bootstrap intervals
over requests.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.quality.sources import NotHere, source

_FREE = {"ranking": None, "ensemble": None}


@dataclass(frozen=True)
class Case:
    """A dataset with its recipe, and which shares of its training requests are answered."""

    title: str
    recipe: Any
    data: Any
    answered: float  # with pseudo-labels
    first: float  # before active learning, which may ask for as many again
    draws: int


def run() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in _cases(folder):
            print(f"\n{case.title}", flush=True)
            print("\n".join(pseudo_labelling(case, folder)), flush=True)
            print("\n".join(active_learning(case, folder)), flush=True)


def _cases(folder: Path) -> Iterator[Case]:
    from pipelines.data.dataset import Dataset
    from pipelines.data.sources.mind import import_mind
    from pipelines.data.sources.newsroom import SIZES, import_newsroom
    from pipelines.prepare import prepare

    import_newsroom(SIZES["small"], folder / "newsroom", seed=17)
    recipe = _recipe("demo")
    yield Case("newsroom", recipe, prepare(Dataset.open(folder / "newsroom"), recipe), 0.3, 0.1, 2)
    try:
        mind = source("mind-mini") / "train"
    except NotHere as missing:
        print(missing)
        return
    import_mind(mind, folder / "mind")
    # With so few labels the shipped recipe keeps the frozen encoder, and there would be nothing to compare.
    recipe = _recipe("news", towers={"projection": "train"}, training={"learning_rate": 1e-4})
    yield Case("MIND", recipe, prepare(Dataset.open(folder / "mind"), recipe), 0.3, 0.3, 2)


def _recipe(name: str, **changes: dict[str, Any]) -> Any:
    from pipelines.recipe import Recipe
    from recipes import shipped

    values = Recipe.load(shipped(name)).model_dump(mode="json") | _FREE
    values["data"]["split"] = {"by": "time", "validation": 0.15, "test": 0.25}
    for section, more in changes.items():
        values[section].update(more)
    # No early end: with few labels the first epochs often lose what later ones win, and more labels are more steps.
    # The quickest, for some forty trainings.
    values["towers"]["history_encoder"] = "mean"
    values["features"]["history"] = 15
    values["training"] |= {"refit": False, "shown_negatives": 4, "epochs": 10, "patience": 10}
    return Recipe.model_validate(values)


def pseudo_labelling(case: Case, folder: Path) -> list[str]:
    """The table of (a)."""
    from pipelines.held_out import hide_answers
    from pipelines.recipe import SelfTraining
    from pipelines.self_training import Teacher, lost_share, pseudo_labels

    settings = SelfTraining(confidence=0.0, most=1.0, weight=0.5)
    requests = case.data.behaviour.requests
    shown = np.repeat(np.arange(len(requests)), np.diff(requests.offsets))
    judged: list[dict[str, np.ndarray]] = []
    told: list[tuple[float, ...]] = []
    for draw in range(case.draws):
        rng = np.random.default_rng(draw)
        data = hide_answers(case.data, _training(case.data) & (rng.random(len(requests)) >= case.answered))
        teacher = _trained(case, data, folder)
        labels = pseudo_labels(settings, data, Teacher(teacher.model, data.window))
        student = _trained(case, data, folder, labels.positives)
        key = np.where(requests.item > 0, rng.random(len(shown)), 2.0)
        drawn = np.lexsort((key, shown))[requests.offsets[labels.positives.request]]
        control = replace(labels.positives, item=requests.item[drawn].astype(np.int32))
        by_chance = _trained(case, data, folder, control)
        helps = _best(student) > _best(teacher)
        models = {"without": teacher, "student": student, "kept": student if helps else teacher, "control": by_chance}
        judged.append({name: _auc(each, data) for name, each in models.items()})
        offered = np.isin(shown, labels.positives.request) & (requests.item > 0)
        told.append(
            (
                len(labels.positives),
                labels.confidence.mean(),
                requests.clicked[labels.place].mean(),
                requests.clicked[offered].mean(),
                labels.confidence.mean() * lost_share(data),
                helps,
            )
        )
        epochs = ", ".join(f"{name} {each.metrics['best_epoch']}" for name, each in models.items())
        print(f"  draw {draw + 1}: epochs kept: {epochs}", flush=True)
    count, confidence, precision, chance, expected, kept = np.mean(told, axis=0)
    return [
        f"pseudo-labels: {case.answered:.0%} of the training requests answered, mean of {case.draws} draws",
        f"  {count:,.0f} labels, mean confidence {confidence:.3f}, precision {precision:.3f} (expected "
        f"{expected:.3f}, by chance {chance:.3f}); the student is kept in {kept:.0%}",
        *_table(judged, against="without"),
    ]


def active_learning(case: Case, folder: Path) -> list[str]:
    """The table of (b)."""
    from pipelines.held_out import hide_answers

    training = _training(case.data)
    judged: list[dict[str, np.ndarray]] = []
    count: dict[str, list[int]] = {}
    for draw in range(case.draws):
        rng = np.random.default_rng(draw)
        known = training & (rng.random(len(training)) < case.first)
        start = hide_answers(case.data, training & ~known)
        first = _trained(case, start, folder)
        found = {"no more": _auc(first, case.data)}
        for name, asked in _asked(start, first, training & ~known, int(known.sum()), rng).items():
            data = hide_answers(case.data, training & ~known & ~asked)
            found[name] = _auc(_trained(case, data, folder), case.data)
            count.setdefault(name, []).append(_labels(data) - _labels(start))
        print(f"  draw {draw + 1} asked", flush=True)
        judged.append(found)
    notes = {name: f"{np.mean(each):,.0f} more labels" for name, each in count.items()}
    return [
        f"active learning: {case.first:.0%} of the training requests answered, then as many again, "
        f"mean of {case.draws} draws",
        *_table(judged, against="random", notes=notes),
    ]


def _asked(data: Any, model: Any, open_: np.ndarray, budget: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """By strategy, (R,) bool: which of the requests `open_` (R,) are answered next."""
    from pipelines.data.splits import Part, keep
    from pipelines.self_training import Teacher, calibrated
    from pipelines.uncertainty import By, Doubt, DroppedOut, Member

    # Nothing later than the training part may choose.
    log, requests = data.behaviour.interactions, data.behaviour.requests
    line = calibrated(data, Teacher(model.model, data.window))
    past = data.parts.interactions == Part.TRAIN
    behaviour, parts = keep(data.behaviour, data.parts, past, np.ones(len(requests.item), bool))
    window = replace(data.window, interactions=behaviour.interactions)
    then = replace(data, behaviour=behaviour, parts=parts, window=window, end=int(requests.at[open_].max()))
    towers = Teacher(model.model, window)
    shown = np.repeat(np.arange(len(requests)), np.diff(requests.offsets))
    flat = open_[shown] & (requests.item > 0)
    allowed = np.bincount(requests.item[flat], minlength=len(data.catalogue) + 1)[1:] > 0
    users = np.unique(requests.user[open_])
    found = {"random": rng.random(len(requests))}
    for by in get_args(By):
        members = (
            [Member(DroppedOut(towers), *line) for _ in range(8)] if by == "committee" else [Member(towers, *line)]
        )
        doubt = Doubt(then, members, by, allowed)
        of_user = np.full(len(log.user_ids), -np.inf)
        of_user[users] = np.nan_to_num(doubt.of_users(users), nan=-np.inf)
        found[f"users, {by}"] = of_user[requests.user]
        of_item = np.nan_to_num(doubt.of_items(users), nan=0.0)[requests.item[flat] - 1]
        size = np.bincount(shown[flat], minlength=len(requests))
        found[f"items, {by}"] = np.bincount(shown[flat], of_item, len(requests)) / np.maximum(size, 1)
    chosen = {}
    for name, score in found.items():
        order = np.lexsort((rng.random(len(score)), -np.where(open_, score, -np.inf), ~open_))
        chosen[name] = np.isin(np.arange(len(score)), order[:budget])
    return chosen


def _training(data: Any) -> np.ndarray:
    from pipelines.data.splits import Part

    return np.asarray(data.parts.requests == Part.TRAIN)


def _labels(data: Any) -> int:
    from pipelines.data.splits import Part

    return int(((data.parts.interactions == Part.TRAIN) & (data.behaviour.interactions.request >= 0)).sum())


def _trained(case: Case, data: Any, folder: Path, added: Any = None) -> Any:
    from pipelines.training import train_prepared

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        return train_prepared(case.recipe, data, folder, added=added)


def _best(trained: Any) -> float:
    return float(trained.metrics["validation"]["by_epoch"][trained.metrics["best_epoch"]])


def _auc(trained: Any, data: Any) -> np.ndarray:
    """(R,) of the test's requests."""
    from pipelines.data.splits import Part
    from pipelines.judge import Slates
    from pipelines.model_ranker import ModelRanker

    slates = Slates.of(data.behaviour, data.parts.requests == Part.TEST, known_only=True)
    return slates.metrics(ModelRanker(trained.model, data.window))["auc"]


def _table(judged: list[dict[str, np.ndarray]], *, against: str, notes: dict[str, str] | None = None) -> list[str]:
    from pipelines.metrics import bootstrap

    mean = {name: np.mean([each[name] for each in judged], axis=0) for name in judged[0]}
    values = bootstrap(mean, seed=17)
    leads = bootstrap({name: each - mean[against] for name, each in mean.items() if name != against}, seed=17)
    lines = [f"  {'':18} auc, {values[against].count:,} requests{'':8} less {against}"]
    for name, value in values.items():
        lead = leads.get(name)
        told = f"{lead.mean:+.4f} [{lead.low:+.4f}, {lead.high:+.4f}]" if lead else ""
        lines.append(f"  {name:18} {value!s:32} {told:28} {(notes or {}).get(name, '')}".rstrip())
    return lines
