"""The models that a configuration asks for, and the change from one configuration to the next."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

from serving.model_server.errors import Code, ServingError
from serving.model_server.lifecycle import ServedModel
from serving.model_server.loaded import LoadedModel
from serving.model_server.model_config import ModelConfig
from serving.model_server.versions import State

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.1  # between looks whether a change is still wanted

Model: TypeAlias = ServedModel[LoadedModel]


class ServedModels:
    """Starts, changes and stops models, so that a configuration is served as a whole or not at all.

    Args:
        create: Makes a model that is not started yet.
        labels_for_unavailable: Whether a new label may name a version that does not serve (yet).
    """

    def __init__(self, create: Callable[[ModelConfig], Model], *, labels_for_unavailable: bool = False) -> None:
        self._create = create
        self._labels_for_unavailable = labels_for_unavailable
        self._changing = threading.Lock()
        self._leaving: list[threading.Thread] = []
        # Each is replaced as a whole, so that requests read it without a lock. A model that is no longer asked for
        # stays among `models`, with versions that have ended.
        self.models: Mapping[str, Model] = {}
        self.configs: Mapping[str, ModelConfig] = {}

    @property
    def ready(self) -> bool:
        """Whether every model that is asked for has a version that serves."""
        return all(self.models[name].available for name in self.configs)

    def apply(
        self,
        configs: Sequence[ModelConfig],
        cancelled: Callable[[], bool] = lambda: False,
        *,
        labels_may_wait: bool = False,
    ) -> None:
        """Serve these models instead of those before. Returns once all are available.

        Changes wait for one another. Models that leave go on serving until then; labels that move do so
        first, while the versions that they leave still serve. After an error everything is as it was before.

        Args:
            cancelled: Asked while waiting; True gives up.
            labels_may_wait: Whether a label may name a version that this change loads: it moves when that serves.

        Raises:
            ServingError: FAILED_PRECONDITION, a label on a version that does not serve; CANCELLED; or a model failed
                to load.
        """
        with self._turn(cancelled):
            before, asked = self.configs, {config.name: config for config in configs}
            if not labels_may_wait:
                self._check_labels(configs)
            moved = {
                name: replace(
                    config,
                    labels={
                        **config.labels,
                        **(self._ready_labels(asked[name]) if labels_may_wait else asked[name].labels),
                    },
                )
                for name, config in before.items()
                if name in asked
            }
            self.configs = {**before, **moved}
            fresh = {name: self._create(config) for name, config in asked.items() if name not in before}
            changed = [name for name, config in asked.items() if name in before and not _same(config, before[name])]
            models_before = self.models
            self.models = {**models_before, **fresh}
            for model in fresh.values():
                model.start()
            try:
                # What serves stays until all that is new does: one version that does not load would unload others.
                for name in changed:
                    self.models[name].change(asked[name].base_path, asked[name].policy, retires=False)
                for name in (*fresh, *changed):
                    self.models[name].wait(cancelled)
                if labels_may_wait:
                    self._check_labels(configs)
                if cancelled():
                    raise _called_off()
                self.configs = asked
                for name in changed:
                    self.models[name].change(asked[name].base_path, asked[name].policy)
                for name in changed:
                    self.models[name].wait(cancelled)
            except BaseException:
                self.configs = before
                for name in changed:
                    self.models[name].change(before[name].base_path, before[name].policy)
                self.models = models_before
                self._dismiss(fresh.values())
                raise
            self._dismiss(self.models[name] for name in before if name not in asked)

    def stop(self, drain_seconds: float) -> None:
        """Unload every model. Requests under way get `drain_seconds`."""
        with self._changing:
            self._dismiss(self.models.values(), drain_seconds)
            for thread in self._leaving:
                thread.join()
            self.configs = {}

    @contextmanager
    def _turn(self, cancelled: Callable[[], bool]) -> Iterator[None]:
        # Whoever does not wait any more must not hold a thread that answers requests.
        while not self._changing.acquire(timeout=_PATIENCE_SECONDS):
            if cancelled():
                raise _called_off()
        try:
            yield
        finally:
            self._changing.release()

    def _dismiss(self, models: Iterable[Model], drain_seconds: float = 600.0) -> None:
        self._leaving = [thread for thread in self._leaving if thread.is_alive()]
        for model in models:
            thread = threading.Thread(target=model.stop, args=(drain_seconds,), name=f"end-of-{model.name}")
            thread.start()
            self._leaving.append(thread)

    def _serving(self, name: str) -> set[int]:
        model = self.models.get(name)
        statuses = model.statuses() if model else []
        return {status.version for status in statuses if status.state is State.AVAILABLE}

    def _ready_labels(self, config: ModelConfig) -> dict[str, int]:
        """Those of versions that serve already."""
        serving = self._serving(config.name)
        return {label: version for label, version in config.labels.items() if version in serving}

    def _check_labels(self, configs: Sequence[ModelConfig]) -> None:
        for config in configs:
            before = self.configs.get(config.name)
            labels = before.labels if before else {}
            serving = self._serving(config.name)
            for label, version in config.labels.items():
                new = label not in labels
                if version in serving or labels.get(label) == version or (new and self._labels_for_unavailable):
                    continue
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {config.name}, "
                    "which is not currently available for inference",
                )


def _called_off() -> ServingError:
    return ServingError(Code.CANCELLED, "The change of models was called off.")


def _same(one: ModelConfig, other: ModelConfig) -> bool:
    return (one.base_path, one.policy) == (other.base_path, other.policy)
