"""The version that a retraining begins with, and the run that it was exported from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.artefacts import read_json, sha256_of
from pipelines.errors import BadInput
from pipelines.export_gate import EXTRA, MANIFEST
from pipelines.progress import say
from pipelines.registry import Registry
from pipelines.run import WEIGHTS, Run
from pipelines.saved_model import versions

RUNS = "runs"


@dataclass(frozen=True)
class Champion:
    """A served version and its run."""

    version: int
    run: Run

    @property
    def trained_until(self) -> datetime | None:
        """The last moment of the dataset that it was trained on, its own validation and test included."""
        last = self.run.origin.last_at
        return None if last in (None, "None") else datetime.fromisoformat(last)


def champion_version(models: Path, name: str) -> int:
    """The champion of the registry. Where that does not know the model, the newest version becomes it.

    A model server without a registry serves the newest version, so that this changes nothing for its users.

    Raises:
        BadInput: There is no version, or the registry knows the model and it has no champion.
    """
    registry = Registry(models)
    found = registry.model(name).holder("champion")
    if found is not None:
        return found
    there = versions(Path(models) / name)
    if not there:
        raise BadInput(
            f"{Path(models) / name} has no version to begin with: `belfry train` a first model and "
            f"`belfry export RUN --to {Path(models) / name}`."
        )
    model = registry.model(name)
    # A kill may have come between the two changes below.
    if set(model.states.items()) - {(there[-1], "candidate")}:
        raise BadInput(f"{name} has no champion: name one with `belfry registry promote {models} {name} VERSION`.")
    if not model.states:
        registry.add(name, there[-1], "the newest version when retraining began")
    registry.promote(name, there[-1], "it was served before there was a registry")
    say(
        f"the registry did not know {name}: its newest version {there[-1]} is the champion. A server that was started "
        "before serves what is exported next at once: start it again, so that it follows the registry"
    )
    return there[-1]


def champion_of(models: Path, name: str, work: Path, version: int, given: Path | None = None) -> Champion:
    """A version with its run: of `given`, WORK/runs/VERSION and the run that its manifest names, the one it is from.

    Raises:
        BadInput: There is no such run any more, or the version was exported from other weights.
    """
    folder = Path(models) / name / str(version)
    manifest = manifest_of(folder)
    named = [given, Path(work) / RUNS / str(version), Path(manifest["run"]) if "run" in manifest else None]
    places = [place for place in named if place is not None]
    there = [place for place in places if (place / WEIGHTS).is_file()]
    for place in there:
        if sha256_of(place / WEIGHTS) == manifest.get("weights"):
            return Champion(version, Run.open(place.resolve()))
    if there:
        raise BadInput(
            f"{there[0]} is not the run of version {version} of {name}, whose weights are others: name it with --run."
        )
    raise BadInput(
        f"the run of version {version} of {name} is not at {' nor at '.join(str(place) for place in places)}: name it "
        "with --run."
    )


def manifest_of(version: Path) -> dict[str, Any]:
    """What an exported version says of itself.

    Raises:
        BadInput: It has no manifest.
    """
    path = version / EXTRA / MANIFEST
    if not path.is_file():
        raise BadInput(f"{version} has no manifest: export it with this Belfry.")
    found: dict[str, Any] = read_json(path)
    return found


def exported_from(models: Path, name: str, run: Run) -> int | None:
    """The version that was exported from a run already."""
    for version in versions(Path(models) / name):
        path = Path(models) / name / str(version) / EXTRA / MANIFEST
        if path.is_file():
            manifest = read_json(path)
            same_place = manifest.get("run") == str(run.folder.resolve())
            if same_place and manifest["weights"] == sha256_of(run.folder / WEIGHTS):
                return version
    return None
