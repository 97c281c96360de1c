"""The evaluation data, where this machine has it."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def evaluation_data() -> Path:
    """The folder of the evaluation data: BELFRY_DATA, or shared/data beside the repository."""
    repository = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("BELFRY_DATA") or repository.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("evaluation data is not on this machine")
    return folder
