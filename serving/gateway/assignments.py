"""Which variants a user is served by, of the experiments that run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from serving.experiments.declaration import Experiment, Treatment
from serving.experiments.exposures import INTERLEAVED, label_of
from serving.gateway.settings import Settings


class Assigned(NamedTuple):
    """How a request is answered: the variant's name for answers and slates, and what it changes.

    Args:
        second: The treatment whose feed is interleaved with that of `treatment`; None for no interleaving.
    """

    variant: str
    treatment: Treatment
    second: Treatment | None = None


class Assignments:
    """The experiments that run, and who is in which."""

    def __init__(self, running: Sequence[Experiment], settings: Settings) -> None:
        self.running = list(running)
        # Of who is in no experiment.
        self.default = Assigned(settings.variant, _own(settings))

    @property
    def labels(self) -> set[str]:
        """Of the model's versions that are asked besides the default."""
        variants = [each.treatment for one in self.running for each in one.variants.values()]
        return {each.label for each in variants if each.label is not None}

    def of(self, user_id: str) -> Assigned:
        """The same user is answered alike, by every replica."""
        if not self.running:
            return self.default
        names: list[str] = []
        changes = self.default.treatment.changes
        mixed: dict[str, Any] | None = None
        second: dict[str, Any] = {}
        for experiment in self.running:
            variant = experiment.split.variant(user_id)
            if variant is None:
                continue
            if experiment.method == "interleaving":
                control, (treated,) = experiment.variants[experiment.control], experiment.treated.values()
                names.append(label_of(experiment.name, INTERLEAVED))
                mixed, second = control.treatment.changes, treated.treatment.changes
            else:
                names.append(label_of(experiment.name, variant))
                changes |= experiment.variants[variant].treatment.changes
        if not names:
            return self.default
        if mixed is None:
            return Assigned(",".join(names), Treatment(**changes))
        # What one of the two sets is not the other's.
        return Assigned(",".join(names), Treatment(**changes | mixed), Treatment(**changes | second))


def _own(settings: Settings) -> Treatment:
    return Treatment(
        label=settings.label or None,
        category_share=settings.category_share,
        explore=settings.explore,
        live_items=settings.live_items,
    )
