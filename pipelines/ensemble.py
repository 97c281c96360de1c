"""Trains the members of an ensemble beside the towers, and makes one model of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.blend import fit_weights, offers
from pipelines.checkpoint import Checkpoint
from pipelines.fit import Validation, fit, training_examples
from pipelines.linear import LinearFit, fit_linear
from pipelines.members import Members, build_ensemble, settings_of, slices_of
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared
from pipelines.progress import say
from pipelines.recipe import Ensemble, Recipe
from pipelines.vocabulary import Vocabulary

_QUERIES = 6000
# Tried on a member's weights, one member after the other, so many times.
_FACTORS = (0.25, 0.5, 2.0, 4.0)
_ROUNDS = 2


@dataclass(frozen=True)
class Fitted:
    """A trained ensemble, and what training it again on more data takes over."""

    model: Any
    members: Members
    weights: np.ndarray
    linear: LinearFit | None
    epochs: list[int] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


def train_ensemble(
    recipe: Recipe,
    data: Prepared,
    model: Any,
    before: Fitted | None,
    checkpoint: Callable[[str], Checkpoint | None] = lambda fit: None,
) -> Fitted:
    """Train what goes beside the trained two-tower `model`, and the weights of all.

    Without a validation part every weight is 1; with `before`, settings, epochs and weights are its. `checkpoint` is
    asked for the place of each specialist's state.
    """
    settings = settings_of(recipe)
    validation = None if before else Validation.of(data, recipe.training, most=_QUERIES)
    members = (
        before.members
        if before
        else Members(specialists=_specialists(recipe, data), linear=settings.linear is not None)
    )
    built = build_ensemble(recipe, data.vocabulary, members, model)
    fits = [
        _train_specialist(
            *(recipe, data, model, special, name),
            epochs=before.epochs[place] if before else None,
            # Names of slices are the publisher's, and need not be names of files.
            checkpoint=checkpoint(f"specialist-{place}"),
        )
        for place, (name, special) in enumerate(zip(members.specialists, built.specialists, strict=True))
    ]
    linear = None
    if built.linear is not None and settings.linear is not None:
        linear = fit_linear(data, settings.linear, validation, before.linear if before else None)
        linear.put(*built.linear)
    metrics: dict[str, Any] = {
        "members": members.names,
        "specialists": dict(zip(members.specialists, fits, strict=True)),
    }
    if linear is not None:
        metrics["linear"] = {"regularisation": linear.regularisation, "decay": linear.decay}
    if before:
        weights = before.weights
    elif validation is None:
        weights = np.ones((slices_of(settings.weights, data.vocabulary) + 1, len(members.names)))
    else:
        weights, judged = _weigh(data, validation, built.model, settings, members)
        metrics["validation"] = judged
    _put(built.model, settings, weights)
    metrics["weights"] = weights.tolist()
    return Fitted(built.model, members, weights, linear, [each["best_epoch"] for each in fits], metrics)


def _weigh(
    data: Prepared, validation: Validation, model: Any, settings: Ensemble, members: Members
) -> tuple[np.ndarray, dict[str, float]]:
    """Weights that make the validation part most likely, and then each member's factor on them that ranks it best.

    A likelihood asks for calibrated scores, a ranking does not: a member with scores of another shape would count too
    little. Where the best member alone is better than all together, it is kept alone.
    """
    slices = slices_of(settings.weights, data.vocabulary)
    ranker = ModelRanker(model, data.window)
    found = offers(data, validation, ranker, model.content.widths, settings.weights)

    def measured(weights: np.ndarray) -> float:
        _put(model, settings, weights)
        # Weights of items change their embeddings, which a ranker keeps.
        return validation.measure(ModelRanker(model, data.window) if settings.weights == "category" else ranker)

    learned = fit_weights(found, slices)
    best = measured(learned)
    for place in [*range(1, len(members.names))] * _ROUNDS:
        for changed in [np.where(np.arange(learned.shape[1]) == place, factor, 1.0) * learned for factor in _FACTORS]:
            value = measured(changed)
            if value > best:
                best, learned = value, changed
    tried = {"ensemble": learned}
    for place, name in enumerate(members.names):
        tried[name] = np.where(np.arange(learned.shape[1]) == place, 1.0, np.zeros_like(learned))
    judged = {name: measured(weights) for name, weights in tried.items()}
    kept = max(judged, key=lambda name: (judged[name], name == "ensemble"))
    say(f"validation {validation.name}: " + ", ".join(f"{name} {value:.4f}" for name, value in judged.items()))
    if kept != "ensemble":
        say(f"together they are no better than {kept}, which is kept alone")
    return tried[kept], judged


def _put(model: Any, settings: Ensemble, weights: np.ndarray) -> None:
    """Set (S + 1, M) weights on the side that chooses among them."""
    if settings.weights == "category":
        model.content.weight_table.assign(weights)
    else:
        model.behaviour.weight_table.assign(weights)


def _names(by: str, vocabulary: Vocabulary) -> list[str]:
    return {"language": vocabulary.languages, "device": vocabulary.devices, "category": vocabulary.categories}[by]


def _slice_of_positives(data: Prepared, by: str) -> np.ndarray:
    """(E,) place in the vocabulary of every positive's slice."""
    log = data.behaviour.interactions
    if by == "category":
        from pipelines.data.catalogue import places

        return places(data.catalogue.category, data.vocabulary.categories)[log.item]
    return data.window.batch(log.user, log.history_end, log.at, log.device)[by]


def _specialists(recipe: Recipe, data: Prepared) -> list[str]:
    """The slices that have enough examples."""
    wanted = settings_of(recipe).specialists
    if wanted is None:
        return []
    trained = training_examples(recipe, data).rows
    names = _names(wanted.by, data.vocabulary)
    count = np.bincount(_slice_of_positives(data, wanted.by)[trained], minlength=len(names) + 1)[1:]
    few = [name for name, examples in zip(names, count, strict=True) if examples < wanted.examples]
    if few:
        say(f"no specialist for {', '.join(few)}: fewer than {wanted.examples:,} examples")
    return [name for name in names if name not in few]


def _train_specialist(
    recipe: Recipe,
    data: Prepared,
    model: Any,
    special: Any,
    name: str,
    *,
    epochs: int | None,
    checkpoint: Checkpoint | None,
) -> dict[str, Any]:
    """Go on from the weights of `model` with the examples of one slice."""
    wanted = settings_of(recipe).specialists
    assert wanted is not None
    place = _names(wanted.by, data.vocabulary).index(name) + 1
    mine = _slice_of_positives(data, wanted.by) == place
    for side in ("content", "behaviour"):
        getattr(special, side).set_weights(getattr(model, side).get_weights())
    validation = None
    if epochs is None:
        validation = Validation.of(data, recipe.training, _slice_of_units(data, mine))
    say(f"specialist of {name}")
    return fit(
        special,
        recipe,
        training_examples(recipe, data, mine),
        data,
        validation,
        [],
        epochs=recipe.training.epochs if epochs is None else epochs,
        checkpoint=checkpoint,
    )


def _slice_of_units(data: Prepared, mine: np.ndarray) -> np.ndarray:
    """(R,) or (E,) bool: the requests with a positive of the slice, or the positives themselves."""
    if not data.on_requests:
        return mine
    request = data.behaviour.interactions.request
    chosen = np.zeros(len(data.behaviour.requests), bool)
    chosen[request[mine & (request >= 0)]] = True
    return chosen
