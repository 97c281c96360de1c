"""The served models by name, and what a request's model spec resolves to."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TypeAlias

from serving.model_server.errors import Code, ServingError, invalid
from serving.model_server.lifecycle import ServedModel
from serving.model_server.loaded import LoadedModel
from serving.model_server.versions import VersionStatus

Lease: TypeAlias = AbstractContextManager[tuple[int, LoadedModel]]


class Registry:
    """Finds the model version a request means."""

    def __init__(self, models: Iterable[ServedModel[LoadedModel]]) -> None:
        self._models = {model.name: model for model in models}

    @property
    def names(self) -> list[str]:
        return list(self._models)

    @property
    def ready(self) -> bool:
        """Whether every model has a version that serves."""
        return all(model.available for model in self._models.values())

    def known(self, name: str) -> list[VersionStatus]:
        """The states of a served model's versions; none while its base path is empty."""
        return self._models[name].statuses()

    def lease(self, name: str, version: int | None = None, label: str | None = None) -> Lease:
        """Hold the version meant for the length of a request.

        Raises:
            ServingError: NOT_FOUND for an unknown model or version, INVALID_ARGUMENT for no name or a label.
        """
        if not name:
            raise invalid("ModelSpec has no name specified.")
        _refuse_label(label)
        model = self._models.get(name)
        if model is None:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
        return model.lease(version)

    def statuses(self, name: str, version: int | None = None, label: str | None = None) -> list[VersionStatus]:
        """The states of a model's versions, newest first, or of the one asked for.

        Raises:
            ServingError: as `lease` does.
        """
        _refuse_label(label)
        model = self._models.get(name)
        statuses = model.statuses() if model else []
        if version is not None:
            statuses = [status for status in statuses if status.version == version]
            if not statuses:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
        if not statuses:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return statuses


def _refuse_label(label: str | None) -> None:
    # Labels are assigned in a model config file, so without one every label is unknown.
    if label is not None:
        raise invalid(f"Unrecognized servable version label: {label}")
