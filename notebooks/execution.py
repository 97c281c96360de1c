"""Notebooks executed as a reader would, from the first cell to the last."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
CELL_SECONDS = 240
# What TensorFlow's C++ side says of itself and of the machine, whatever its log level.
_REMARK = re.compile(r"^([IWE]\d{4} \d|WARNING: All log messages before absl).*\n?", re.MULTILINE)


def notebooks() -> list[Path]:
    """All of them, in their order."""
    return sorted(FOLDER.glob("*.ipynb"))


def executed(path: Path) -> Any:
    """A notebook with the outputs of a new run, in a kernel of its own; the file stays as it is.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    # The kernel starts where the notebook is, and prints no times of its own.
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
    )
    found = client.execute()
    for cell in found.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_without_remarks, cell.outputs) if output.get("text") != ""]
    return found


def _without_remarks(output: Any) -> Any:
    if output.get("name") == "stderr":
        output["text"] = _REMARK.sub("", output["text"])
    return output
