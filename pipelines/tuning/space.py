"""The search space of a recipe, in KerasTuner's terms and in the recipe's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.errors import BadInput
from pipelines.recipe import Range, Recipe, Search

_RATES = {"low": 1e-6, "high": 1e-4}


@dataclass(frozen=True)
class Space:
    """What a search varies: values or ranges by their path in the recipe. The recipe's own values come first."""

    recipe: Recipe
    keys: Search

    @classmethod
    def of(cls, recipe: Recipe) -> Space:
        """The space that a recipe names in `search`, or else the usual one.

        Raises:
            BadInput: A path leads nowhere, or a value is not valid by itself or changes what trials are judged by.
        """
        space = cls(recipe, recipe.search or usual(recipe))
        for path, values in space.keys.items():
            if isinstance(values, list) and len(_by_name(values)) < len(values):
                raise BadInput(f"search.{path} holds a value twice.")
            for value in (values.low, values.high) if isinstance(values, Range) else values:
                try:
                    changed = recipe.changed({path: value})
                except BadInput as error:
                    raise BadInput(f"search.{path}: {value!r} cannot be tried: {error}") from None
                if _judged_by(changed) != _judged_by(recipe):
                    raise BadInput(
                        f"search.{path}: {value!r} would change what a trial is judged by, and trials could not be "
                        "compared: leave it out of the search, and set it in the recipe."
                    )
        return space

    def hyperparameters(self) -> Any:
        """The `keras_tuner.HyperParameters`, whose defaults are the recipe's values where they are in the space."""
        from towers.runtime import import_keras_tuner

        found = import_keras_tuner().HyperParameters()
        for path, values in self.keys.items():
            own = _at(self.recipe, path)
            if isinstance(values, Range):
                low, high = (int if values.whole else float)(values.low), (int if values.whole else float)(values.high)
                inside = isinstance(own, int | float) and low <= own <= high
                settings = {"step": values.step, "sampling": values.scale, "default": own if inside else low}
                (found.Int if values.whole else found.Float)(path, low, high, **settings)
            else:
                names = list(_by_name(values))
                default = _name(own) if _name(own) in names else names[0]
                # Numbers are in order, so that what lies near is known to be near; names are not.
                if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
                    numbers = [float(value) if float in map(type, values) else value for value in values]
                    found.Choice(path, numbers, default=numbers[names.index(default)], ordered=True)
                else:
                    found.Choice(path, names, default=default, ordered=False)
        return found

    def recipe_of(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe that KerasTuner's values name; keys of its own, such as `tuner/epochs`, are left out.

        Raises:
            BadInput: These values do not go together.
        """
        return self.recipe.changed(self.chosen(values))

    def chosen(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """KerasTuner's values as they stand in the recipe, by path."""
        found = {}
        for path, among in self.keys.items():
            if path in values:
                found[path] = values[path]
                if not isinstance(among, Range):
                    found[path] = _by_name(among).get(str(values[path]), values[path])
        return found


def usual(recipe: Recipe) -> Search:
    """Learning rates from 1e-6 to 1e-4, or up to three times the recipe's own; batch size, dropout, widths, history
    encoder, and where the text encoder is fine-tuned, its rate and how many of its layers stay frozen."""
    own = recipe.training.learning_rate
    rate = Range.model_validate({**_RATES, "high": max(_RATES["high"], 3 * own), "scale": "log"})
    space: Search = {
        "training.learning_rate": rate,
        "training.batch_size": [32, 64, 128],
        "towers.dropout": [0.0, 0.1, 0.2, 0.3, 0.5],
        "towers.history_dropout": [0.0, 0.1, 0.2, 0.3, 0.5],
        "towers.width": [128, 256, 384, 512],
        "towers.history_units": [32, 64, 128],
        "towers.history_encoder": ["mean", "cnn", "lstm", "gru", "attention", "transformer"],
    }
    if recipe.fine_tuning is not None:
        first = recipe.fine_tuning.stages[0]
        top = max(first.layers)
        thawed = [list(range(top - count + 1, top + 1)) for count in range(1, min(4, top + 1) + 1)]
        space["fine_tuning.learning_rate"] = Range.model_validate({**_RATES, "scale": "log"})
        if len(thawed) > 1:
            space["fine_tuning.stages"] = [[{"epoch": first.epoch, "layers": layers}] for layers in thawed]
    return space


def short(value: Any) -> str:
    """A value of a recipe as people write it."""
    return f"{value:.3g}" if isinstance(value, float) else _name(value)


def _judged_by(recipe: Recipe) -> tuple[Any, ...]:
    """What decides on the validation part's rows and on the metric. Histories are only what is learned from."""
    training = recipe.training
    return training.metric, training.seed, recipe.data.model_copy(update={"histories": "before"})


def _at(recipe: Recipe, path: str) -> Any:
    place: Any = recipe.model_dump(mode="json")
    for name in path.split("."):
        place = place.get(name) if isinstance(place, dict) else None
    return place


def _by_name(values: list[Any]) -> dict[str, Any]:
    return {_name(value): value for value in values}


def _name(value: Any) -> str:
    """A value of a recipe as a word."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
