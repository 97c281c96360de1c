"""What a request's model spec resolves to: a model, a version, by number or by label."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TypeAlias

from serving.model_server.errors import Code, ServingError, invalid
from serving.model_server.loaded import LoadedModel
from serving.model_server.served_models import ServedModels
from serving.model_server.versions import VersionStatus

Lease: TypeAlias = AbstractContextManager[tuple[int, LoadedModel]]


class Registry:
    """Finds the model version a request means."""

    def __init__(self, served: ServedModels) -> None:
        self._served = served

    def has(self, name: str) -> bool:
        """Whether a model of that name is, or was, served."""
        return name in self._served.models

    @property
    def ready(self) -> bool:
        """Whether every model has a version that serves."""
        return self._served.ready

    def known(self) -> dict[str, list[VersionStatus]]:
        """The states of every model's versions; none while its base path is empty."""
        return {name: model.statuses() for name, model in self._served.models.items()}

    def lease(self, name: str, version: int | None = None, label: str | None = None) -> Lease:
        """Hold the version meant for the length of a request.

        Raises:
            ServingError: NOT_FOUND for an unknown model or version, INVALID_ARGUMENT for no name or an unknown label.
        """
        if not name:
            raise invalid("ModelSpec has no name specified.")
        if label is not None:
            version = self._labelled(name, label)
        # A model that leaves still unloads, one that comes is not accepted yet: neither is asked for.
        model = self._served.models.get(name) if name in self._served.configs else None
        if model is None:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
        return model.lease(version)

    def statuses(self, name: str, version: int | None = None, label: str | None = None) -> list[VersionStatus]:
        """The states of a model's versions, newest first, or of the one asked for.

        Raises:
            ServingError: as `lease` does.
        """
        if label is not None:
            version = self._labelled(name, label)
        model = self._served.models.get(name)
        statuses = model.statuses() if model else []
        if version is not None:
            statuses = [status for status in statuses if status.version == version]
            if not statuses:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
        if not statuses:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return statuses

    def _labelled(self, name: str, label: str) -> int:
        config = self._served.configs.get(name)
        if config is None or label not in config.labels:
            raise invalid(f"Unrecognized servable version label: {label}")
        return config.labels[label]
