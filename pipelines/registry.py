"""Which version of a model serves, which is on trial, and how it came to that: one file, replaced as a whole."""

from __future__ import annotations

import contextlib
import fcntl
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.artefacts import atomic_file, read_json, write_json
from pipelines.errors import BadInput

REGISTRY, CONFIG = "registry.json", "models.config"
State = Literal["candidate", "canary", "champion", "retired"]
_LOCK = ".registry.lock"
# Labels that the states give, and what a label of one's own may be.
_STATE_LABELS = ("champion", "canary", "before")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Change(BaseModel):
    """A version's new state. `at` is seconds since 1970."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    state: State
    at: float
    why: str


class Pin(BaseModel):
    """A label of one's own is given to a version, or with None taken away. `at` is seconds since 1970."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    version: int | None
    at: float
    why: str

    @property
    def told(self) -> str:
        """What happened, for a reader."""
        return f"{'unpinned' if self.version is None else 'pinned'} as {self.label}"


class Model(BaseModel):
    """A model's versions. What is not named here is not known to the registry, and is not served."""

    model_config = ConfigDict(extra="forbid")

    history: list[Change] = []
    pin_history: list[Pin] = []

    @property
    def states(self) -> dict[int, State]:
        """By version, the latest."""
        return {change.version: change.state for change in self.history}

    def holder(self, state: State) -> int | None:
        """The one version that is champion, or canary."""
        return next((version for version, found in self.states.items() if found == state), None)

    @property
    def before(self) -> int | None:
        """The champion before this one: where a rollback leads."""
        champion, found = self.holder("champion"), None
        for change in self.history:
            if change.state == "champion" and change.version != champion:
                found = change.version
        return found

    @property
    def served(self) -> dict[str, int]:
        """Versions by label. The champion before stays loaded, so that going back to it takes no time."""
        labels = {"champion": self.holder("champion"), "canary": self.holder("canary"), "before": self.before}
        return {label: version for label, version in labels.items() if version is not None} | self.pins

    @property
    def pins(self) -> dict[str, int]:
        """Versions by the labels that somebody has given them."""
        latest = {pin.label: pin.version for pin in self.pin_history}
        return {label: version for label, version in sorted(latest.items()) if version is not None}


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    served_at: str | None = None
    models: dict[str, Model] = {}


class Registry:
    """The registry of a folder of models, MODELS/NAME/VERSION.

    Its one file, `registry.json`, holds every change there ever was; it is replaced atomically, and two processes
    change it one after the other. From it `models.config` is written, which TensorFlow Serving and `belfry
    model-server` read (--model_config_file, with --model_config_file_poll_wait_seconds=1 and
    --allow_version_labels_for_unavailable_models): the champion, the canary and the champion before, by label. A crash
    between the two is made up for when the registry is next opened. The champion before stays loaded, so that a
    rollback moves a label and waits for nothing. So does a version that is pinned, whatever becomes of it.

    Does not delete versions, and does not work on object stores that are not mounted as a folder.

    Args:
        models: The folder.

    Raises:
        BadInput: It is no folder, or its registry cannot be read.

    Example:
        >>> import shutil
        >>> from pipelines import Registry
        >>> _ = shutil.copytree("models/news/1", "registered/news/1")
        >>> registry = Registry("registered")
        >>> registry.add("news", 1, "the first")
        >>> registry.promote("news", 1)
        >>> registry.model("news").states, registry.model("news").served
        ({1: 'champion'}, {'champion': 1})
    """

    def __init__(self, models: Path | str) -> None:
        self.folder = Path(models)
        if not self.folder.is_dir():
            raise BadInput(f"{self.folder} is not a folder of models, MODELS/NAME/VERSION.")
        content = self._read()
        if (self.folder / REGISTRY).exists() and self._config(content) != self._config_there():
            with self._locked():
                self._write_config(self._read())

    def model(self, name: str) -> Model:
        """A model's versions; none where the registry does not know it."""
        return self._read().models.get(name, Model())

    def names(self) -> list[str]:
        """The models that it knows."""
        return sorted(self._read().models)

    def serve_at(self, path: str) -> None:
        """Say where the server sees this folder, such as `/models` in a container."""
        if not path.startswith("/"):
            raise BadInput(f"{path} is not an absolute path.")
        with self._changing() as content:
            content.served_at = path.rstrip("/") or "/"

    def add(self, name: str, version: int, why: str = "") -> None:
        """A new version is a candidate.

        Raises:
            BadInput: There is no such version, or it is known already.
        """
        if not self._is_there(name, version):
            raise BadInput(f"{self.folder / name / str(version)} is not an exported version.")
        with self._changing() as content:
            model = content.models.setdefault(name, Model())
            if version in model.states:
                raise BadInput(f"version {version} of {name} is known already: it is {model.states[version]}.")
            self._set(model, version, "candidate", why)

    def try_out(self, name: str, version: int, why: str = "") -> None:
        """A candidate becomes the canary, of which there is one.

        Raises:
            BadInput: It is no candidate, it is no longer there, or another version is the canary.
        """
        with self._changing() as content:
            model = self._known(content, name, version, "candidate")
            if (other := model.holder("canary")) is not None:
                raise BadInput(f"version {other} of {name} is the canary: promote or retire it first.")
            self._check_there(name, version)
            self._set(model, version, "canary", why)

    def promote(self, name: str, version: int, why: str = "") -> None:
        """A candidate or the canary becomes the champion; the one before is retired, and stays loaded.

        Raises:
            BadInput: It is neither, or no longer there.
        """
        with self._changing() as content:
            model = self._known(content, name, version, "candidate", "canary")
            self._check_there(name, version)
            if (champion := model.holder("champion")) is not None:
                self._set(model, champion, "retired", f"version {version} is promoted")
            self._set(model, version, "champion", why)

    def retire(self, name: str, version: int, why: str = "") -> None:
        """A candidate or the canary is taken out.

        Raises:
            BadInput: It is neither; a champion ends by the promotion of another, or by a rollback.
        """
        with self._changing() as content:
            self._set(self._known(content, name, version, "candidate", "canary"), version, "retired", why)

    def roll_back(self, name: str, why: str = "", to: int | None = None) -> int:
        """The champion before, or another version `to` that was champion once, is it again; returns the version.

        Raises:
            BadInput: There was none before, or the version never was champion, is it now or is no longer there.
        """
        with self._changing() as content:
            model = content.models.get(name, Model())
            champion, before = model.holder("champion"), model.before if to is None else to
            if champion is None or before is None:
                raise BadInput(f"{name} had no champion before this one.")
            once = sorted({change.version for change in model.history if change.state == "champion"} - {champion})
            if before not in once:
                told = ", ".join(map(str, once)) or "none"
                raise BadInput(f"version {before} of {name} is no champion of the past; such are: {told}.")
            self._check_there(name, before)
            self._set(model, champion, "retired", why)
            self._set(model, before, "champion", f"rolled back from version {champion}: {why}")
            return before

    def pin(self, name: str, label: str, version: int, why: str = "") -> None:
        """Keep a version loaded under a further label, such as `frozen` for a long-term holdout, whatever its state.

        A label that is pinned already moves.

        Raises:
            BadInput: The registry does not know the version or it is no longer there, the version has the label
                already, or the label is not free to choose.
        """
        if label in _STATE_LABELS or not _LABEL.fullmatch(label):
            wanted = f"another than {', '.join(_STATE_LABELS)}, of letters, digits, - and _"
            raise BadInput(f"{label!r} is no label to pin: give {wanted}.")
        with self._changing() as content:
            model = content.models.get(name, Model())
            if version not in model.states:
                raise BadInput(f"version {version} of {name} is not known to the registry.")
            self._check_there(name, version)
            if model.pins.get(label) == version:
                raise BadInput(f"version {version} of {name} has the label {label} already.")
            model.pin_history.append(Pin(label=label, version=version, at=time.time(), why=why))

    def unpin(self, name: str, label: str, why: str = "") -> int:
        """Take a label away that `pin` gave; returns the version that had it.

        Raises:
            BadInput: No version has it.
        """
        with self._changing() as content:
            model = content.models.get(name, Model())
            version = model.pins.get(label)
            if version is None:
                raise BadInput(f"no version of {name} is pinned as {label}.")
            model.pin_history.append(Pin(label=label, version=None, at=time.time(), why=why))
            return version

    def _known(self, content: _Content, name: str, version: int, *states: State) -> Model:
        model = content.models.get(name, Model())
        state = model.states.get(version)
        if state not in states:
            told = "not known to the registry" if state is None else f"{state}, not {' or '.join(states)}"
            raise BadInput(f"version {version} of {name} is {told}.")
        return model

    def _is_there(self, name: str, version: int) -> bool:
        return (self.folder / name / str(version) / "saved_model.pb").is_file()

    def _check_there(self, name: str, version: int) -> None:
        # A label on what cannot be loaded would leave its requests without an answer.
        if not self._is_there(name, version):
            raise BadInput(f"{self.folder / name / str(version)} is no longer there: bring it back, or take another.")

    def _set(self, model: Model, version: int, state: State, why: str) -> None:
        model.history.append(Change(version=version, state=state, at=time.time(), why=why))

    def _read(self) -> _Content:
        path = self.folder / REGISTRY
        if not path.exists():
            return _Content()
        try:
            return _Content.model_validate(read_json(path))
        except ValidationError as error:
            raise BadInput(f"{path} is no registry that this Belfry reads ({error.errors()[0]['msg']}).") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_Content]:
        with self._locked():
            content = self._read()
            yield content
            write_json(self.folder / REGISTRY, content.model_dump(mode="json"))
            self._write_config(content)

    def _write_config(self, content: _Content) -> None:
        with atomic_file(self.folder / CONFIG) as draft:
            draft.write_text(self._config(content), encoding="utf-8")

    def _config_there(self) -> str:
        try:
            return (self.folder / CONFIG).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def _config(self, content: _Content) -> str:
        """A `ModelServerConfig` in text format."""
        root = content.served_at or str(self.folder.resolve())
        lines = ["# Written by the registry beside it; changes here are lost.", "model_config_list {"]
        for name, model in sorted(content.models.items()):
            if not model.served:
                continue
            lines += ["  config {", f"    name: {_quoted(name)}", f"    base_path: {_quoted(f'{root}/{name}')}"]
            lines += ['    model_platform: "tensorflow"', "    model_version_policy {", "      specific {"]
            lines += [f"        versions: {version}" for version in sorted(set(model.served.values()))]
            lines += ["      }", "    }"]
            for label, version in model.served.items():
                lines += ["    version_labels {", f"      key: {_quoted(label)}", f"      value: {version}", "    }"]
            lines.append("  }")
        return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
