"""A run that learned nothing: what an experiment has to catch."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np

from pipelines.artefacts import atomic_folder
from pipelines.run import FILES, RANKER, WEIGHTS


def spoil(run: Path, to: Path, *, seed: int) -> Path:
    """Copy a run folder with the numbers of every weight in another order.

    It exports as any run does: the served model is the trained one, which is bad.
    """
    rng = np.random.default_rng(seed)
    with atomic_folder(to, replaces=FILES) as draft:
        shutil.copytree(run, draft, dirs_exist_ok=True)
        for name in (WEIGHTS, RANKER):
            if (draft / name).exists():
                _shuffle(draft / name, rng)
    return to


def _shuffle(path: Path, rng: np.random.Generator) -> None:
    def shuffled(name: str, found: h5py.Group | h5py.Dataset) -> None:
        if isinstance(found, h5py.Dataset) and found.size > 1 and found.dtype.kind == "f":
            values = found[...]
            found[...] = rng.permutation(values.ravel()).reshape(values.shape)

    with h5py.File(path, "r+") as file:
        file.visititems(shuffled)
