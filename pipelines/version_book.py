"""The registry as a gateway uses it: see `serving.gateway.version_book`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pipelines.errors import BadInput
from pipelines.registry import REGISTRY, Registry
from serving.gateway.version_book import BadChange, VersionChange, Versions


class RegistryBook:
    """One model's part of the registry of a folder of models.

    Args:
        models: The folder, MODELS/NAME/VERSION.
        name: The model's.

    Raises:
        BadInput: There is no registry, or it cannot be read.
    """

    def __init__(self, models: Path, name: str) -> None:
        if not (Path(models) / REGISTRY).is_file():
            raise BadInput(f"{models} has no registry: belfry registry add.")
        self._registry, self._name = Registry(models), name

    def versions(self) -> Versions:
        """What is known of the model's versions."""
        with _told():
            model = self._registry.model(self._name)
        history = [VersionChange(each.version, each.state, round(each.at * 1e6), each.why) for each in model.history]
        return Versions(dict(model.states), model.served, model.before, history)

    def promote(self, version: int, why: str) -> None:
        """A candidate or the canary becomes the champion."""
        with _told():
            self._registry.promote(self._name, version, why)

    def retire(self, version: int, why: str) -> None:
        """A candidate or the canary is taken out."""
        with _told():
            self._registry.retire(self._name, version, why)

    def roll_back(self, why: str) -> int:
        """The champion before is the champion again; returns its version."""
        with _told():
            return self._registry.roll_back(self._name, why)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BadInput as error:
        told = str(error)
        raise BadChange(f"{told[0].upper()}{told[1:]}") from None
    except OSError as error:  # such as a folder that is mounted to be read
        raise BadChange(f"The registry cannot be changed here: {error.strerror}.") from None
