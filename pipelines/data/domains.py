"""Items by domain, as many of each in a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.catalogue import Catalogue
from pipelines.errors import BadInput
from pipelines.recipe import Adaptation


def domain_values(catalogue: Catalogue, domain: str) -> np.ndarray:
    """(N,) str: the language or the category of every item, "" for unknown."""
    return getattr(catalogue, domain)


@dataclass(frozen=True)
class DomainItems:
    """Rows of the item table whose domain is known.

    Attributes:
        names: (C,) of the domains, in the order of their places.
        members: Rows of each domain.
        per_step: G, items drawn for a step, the same number of each domain, at least one.
    """

    names: list[str]
    members: list[np.ndarray]
    per_step: int

    @classmethod
    def of(cls, catalogue: Catalogue, settings: Adaptation) -> DomainItems:
        """The domains of a catalogue under a recipe.

        Raises:
            BadInput: There are not two.
        """
        values = domain_values(catalogue, settings.domain)
        known = sorted(set(values.tolist()) - {""})
        if len(known) < 2:
            only = f"only {known[0]!r}" if known else "none"
            raise BadInput(f"adaptation needs items of two values of {settings.domain}; the catalogue has {only}.")
        if settings.target is not None and settings.target not in known:
            raise BadInput(f"no item has the {settings.domain} {settings.target!r} (there are {some_of(known)}).")
        if settings.target is None:
            groups = {name: values == name for name in known}
        else:
            groups = {settings.target: values == settings.target}
            groups["others"] = (values != "") & ~groups[settings.target]
        return cls(list(groups), [np.flatnonzero(group) + 1 for group in groups.values()], settings.items)

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`domain_items` and `domain` of a step, (G,) int32; what a domain has too few of is drawn repeatedly."""
        each = max(1, self.per_step // len(self.members))
        rows = [rng.choice(rows, each, replace=len(rows) < each) for rows in self.members]
        return {
            "domain_items": np.concatenate(rows).astype(np.int32),
            "domain": np.repeat(np.arange(len(rows), dtype=np.int32), each),
        }


def some_of(names: list[str], most: int = 10) -> str:
    """Names for a sentence."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
