"""Exports that start no process: what they wrote is loaded where it was written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@contextlib.contextmanager
def quick_exports() -> Iterator[None]:
    """An export compares what it wrote with the Python model all the same, but asks no fresh process and no server.

    For what another recipe changes in the graph, and for what is served afterwards anyway: they take seconds to start,
    and are asked by the exports that all tests share.
    """
    from pipelines import export_check, export_gate, reload
    from towers.runtime import tf

    def ask(saved: Path, asked: dict[str, np.ndarray], needs: Sequence[str] = ()) -> dict[str, Any]:
        assert not needs
        assert not reload.foreign_ops(str(saved))
        return reload.answers_of(tf.saved_model.load(str(saved)), asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_check, "ask_in_fresh_process", ask)
        # As where the model server is not installed.
        patch.setattr(export_gate, "_SERVED_BY", ("no_such_package",))
        yield
