"""Self-training: the towers learn from what they say themselves of requests that no event answers.

The teacher, trained on the labels, names the item of each such request that was most likely clicked, and where it is
sure enough a student is trained from the start on both (Yarowsky 1995; Lee 2013, Pseudo-label). The student is kept
only where the validation part ranks it higher.

An unlabelled request is often one in which the user wanted nothing, and then every pseudo-label on it is false. No log
says which ones these are. What can be said is how many: where the validation part's log is whole, as many requests as
training has fewer with a click. The confidence is the probability of a click given that the request has one; times
that share it is the precision to expect, which is told beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from scipy.special import expit

from pipelines.calibration import platt
from pipelines.data.positives import Positives
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.fit import Validation
from pipelines.judge import Slates, unseen
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared
from pipelines.progress import say
from pipelines.rankers import Ranker
from pipelines.recipe import Recipe, SelfTraining


class Towers(Protocol):
    """A trained first stage."""

    @property
    def model(self) -> Any: ...

    @property
    def metrics(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Towers)


def self_train(recipe: Recipe, data: Prepared, fit_towers: Callable[[Positives, str], T]) -> tuple[T, dict[str, Any]]:
    """The teacher, or a student that is better on the validation part; and what metrics.json says of it.

    Args:
        fit_towers: Trains new towers on the log's positives and on those given; the name is that of their checkpoint.

    Raises:
        BadInput: There is no slate, or no validation part to calibrate and to judge on.
    """
    settings = recipe.self_training
    assert settings is not None
    if not data.on_requests:
        raise BadInput("self_training labels what requests showed, and there is none: leave it out of the recipe.")
    validation = Validation.of(data, recipe.training)
    if validation is None:
        raise BadInput("self_training needs a validation part to calibrate and to judge on: set data.split.validation.")
    kept = fit_towers(Positives.none(), "towers")
    lost = lost_share(data)
    rounds: list[dict[str, Any]] = []
    for number in range(1, settings.rounds + 1):
        labels = pseudo_labels(settings, data, ModelRanker(kept.model, data.window))
        told: dict[str, Any] = {"unlabelled_requests": labels.requests, "pseudo_labels": len(labels.positives)}
        rounds.append(told)
        if not len(labels.positives):
            say(f"self-training: no pseudo-label, {labels.why(settings)}")
            break
        confidence = float(labels.confidence.mean())
        told |= {"mean_confidence": confidence, "expected_precision": confidence * lost}
        say(
            f"self-training: {len(labels.positives):,} pseudo-labels on {labels.requests:,} unlabelled requests, "
            f"mean confidence {confidence:.2f}, precision to expect {confidence * lost:.2f}"
        )
        student = fit_towers(labels.positives, f"student-{number}")
        told |= {"teacher": _best(kept), "student": _best(student)}
        told["kept"] = "student" if told["student"] > told["teacher"] else "teacher"
        say(
            f"self-training: validation {validation.name} {told['teacher']:.4f} of the teacher, "
            f"{told['student']:.4f} of the student: the {told['kept']} is kept"
        )
        if told["kept"] == "teacher":
            break
        kept = student
    students = [each["kept"] for each in rounds if "kept" in each].count("student")
    return kept, {
        "kept": "student" if students else "teacher",
        "metric": validation.name,
        "requests_with_a_lost_click": lost,
        "rounds": rounds,
    }


def _best(towers: Towers) -> float:
    return float(towers.metrics["validation"]["by_epoch"][towers.metrics["best_epoch"]])


@dataclass(frozen=True)
class PseudoLabels:
    """P pseudo-labels, the surest first.

    Attributes:
        place: (P,) in the flat arrays of the requests.
        confidence: (P,) that the item was clicked, given that its request has a click.
        requests: How many are unlabelled.
        highest: The highest confidence of any of their items; NaN where there is none.
    """

    positives: Positives
    place: np.ndarray
    confidence: np.ndarray
    requests: int
    highest: float

    def why(self, settings: SelfTraining) -> str:
        """Why there is none, in words."""
        if not np.isfinite(self.highest):
            return "since no request of the training part is without an answer and shows something new"
        return f"since the surest is {self.highest:.2f} and self_training.confidence {settings.confidence:.2f}"


def unlabelled(data: Prepared) -> np.ndarray:
    """(R,) bool: requests of the training part of which no event says what became.

    Left out are those later than the training part, and those whose history holds something of another part.
    """
    log, requests = data.behaviour.interactions, data.behaviour.requests
    trained = data.parts.interactions == Part.TRAIN
    if not trained.any():
        return np.zeros(len(requests), bool)
    held = np.r_[0, np.cumsum(~trained)]
    clean = held[requests.history_end] == held[np.minimum(log.user_offsets[requests.user], requests.history_end)]
    return (
        (data.parts.requests == Part.TRAIN) & ~_answered(data) & clean & (requests.at <= log.at[trained].max(initial=0))
    )


def _answered(data: Prepared) -> np.ndarray:
    """(R,) bool: requests with a positive, of whatever part and of whatever item."""
    log, requests = data.behaviour.interactions, data.behaviour.requests
    found = np.zeros(len(requests), bool)
    found[log.request[log.request >= 0]] = True
    found[np.repeat(np.arange(len(requests)), np.diff(requests.offsets))[requests.clicked]] = True
    return found


def lost_share(data: Prepared) -> float:
    """Share of the training part's requests without a click that must have lost one, were they like validation's.

    With rates of requests with a click t in training and v in validation, (v - t) / (1 - t), and at least 0. It takes
    the validation part's log for whole, and lost clicks for lost at random.
    """
    found = _answered(data)
    train, validation = (found[data.parts.requests == part] for part in (Part.TRAIN, Part.VALIDATION))
    if not len(train) or not len(validation) or train.all():
        return 0.0
    return float(max(0.0, (validation.mean() - train.mean()) / (1 - train.mean())))


def pseudo_labels(settings: SelfTraining, data: Prepared, teacher: Ranker) -> PseudoLabels:
    """What the teacher takes for clicked: of each unlabelled request the likeliest item, above the confidence.

    Scores become probabilities by Platt's calibration on the validation part's requests with a click. An item that the
    user had wanted before is none to label. Of more than `most`, the surest are kept; among equals the earliest.
    """
    slope, intercept = calibrated(data, teacher)
    requests = data.behaviour.requests
    chosen = unlabelled(data)
    shown = np.repeat(np.arange(len(requests)), np.diff(requests.offsets))
    flat = np.flatnonzero(chosen[shown] & (requests.item > 0))
    slates = Slates.of(data.behaviour, chosen, known_only=True)
    confidence = expit(slope * slates.scores(teacher) + intercept)
    new = np.zeros(len(flat), bool)
    for rows, block in slates.queries.blocks(1024):
        part = slice(slates.offsets[rows.start], slates.offsets[rows.stop])
        row = np.repeat(np.arange(len(block)), np.diff(slates.offsets[rows.start : rows.stop + 1]))
        new[part] = unseen(data.behaviour, block, len(data.catalogue))[row, slates.item[part] - 1]
    flat, confidence = flat[new], confidence[new]
    # Lexsort is stable: among equals the item shown first.
    order = np.lexsort((-confidence, shown[flat]))
    first = order[np.r_[True, np.diff(shown[flat[order]]) > 0]] if len(order) else order
    sure = first[confidence[first] > settings.confidence]
    labelled = (data.parts.interactions == Part.TRAIN) & (data.behaviour.interactions.request >= 0)
    kept = sure[np.argsort(-confidence[sure], kind="stable")][: max(1, int(settings.most * labelled.sum()))]
    request = shown[flat[kept]]
    return PseudoLabels(
        Positives(
            requests.user[request],
            requests.history_end[request],
            requests.at[request],
            requests.device[request],
            request,
            requests.item[flat[kept]].astype(np.int32),
            np.full(len(kept), settings.weight, np.float32),
            np.zeros(len(kept), np.int32),
        ),
        flat[kept],
        confidence[kept],
        int(chosen.sum()),
        float(confidence.max()) if len(confidence) else float("nan"),
    )


def calibrated(data: Prepared, teacher: Ranker) -> tuple[float, float]:
    """Slope and intercept from the scores to the log-odds of a click, given that its request has one."""
    held = Slates.of(data.behaviour, (data.parts.requests == Part.VALIDATION) & _answered(data), known_only=True)
    return platt(held.scores(teacher), held.clicked)
