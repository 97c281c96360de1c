"""A spoilt run has the same numbers, in another order."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from pipelines.run import WEIGHTS
from pipelines.simulation.spoil import spoil


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("recipe.yaml", "origin.json"):
        (folder / name).write_text("x: 1\n")
    with h5py.File(folder / WEIGHTS, "w") as file:
        file["layers/dense/0"] = np.arange(12.0).reshape(3, 4)
        file["layers/dense/1"] = np.float32(3.0)
        file["layers/count"] = np.arange(3)
    return folder


def test_numbers_stay_and_their_order_does_not(run: Path, tmp_path: Path) -> None:
    for seed in (1, 1, 2):
        spoil(run, tmp_path / f"spoilt{seed}", seed=seed)
    with h5py.File(tmp_path / "spoilt1" / WEIGHTS) as one, h5py.File(tmp_path / "spoilt2" / WEIGHTS) as other:
        values = one["layers/dense/0"][...]
        assert sorted(values.ravel()) == list(range(12))
        assert values.tolist() != np.arange(12.0).reshape(3, 4).tolist()
        assert values.tolist() != other["layers/dense/0"][...].tolist()
        assert one["layers/count"][...].tolist() == [0, 1, 2]
    assert (tmp_path / "spoilt1" / "recipe.yaml").read_text() == "x: 1\n"
    with h5py.File(run / WEIGHTS) as file:
        assert file["layers/dense/0"][0].tolist() == [0, 1, 2, 3]
