"""Every notebook runs from its first cell to its last, and does what a reader could do as well."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

import pipelines
import serving
import towers
from notebooks.execution import executed, notebooks

PACKAGES = {package.__name__: package for package in (pipelines, serving, towers)}
NOTEBOOKS = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)


def code(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_seven() -> None:
    assert len(notebooks()) == 7


@NOTEBOOKS
def test_it_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # or jupyter_core warns of a change
    found = executed(path)
    shown = [output for cell in found.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/svg+xml" in output.get("data", {}) for output in shown) >= 2, "plots"


@NOTEBOOKS
def test_its_outputs_are_kept(path: Path) -> None:
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run it: make notebooks"
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    text = "".join(output.get("text", "") for output in outputs)
    assert not re.search(r"Traceback|/home/|/root/|site-packages", text), "of somebody's machine"


@NOTEBOOKS
def test_it_uses_the_public_api_alone(path: Path) -> None:
    source = "\n".join(re.sub(r"^%.*$", "", cell.source, flags=re.M) for cell in code(path))
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {name.name.split(".")[0] for name in node.names} & {"os", "subprocess", *PACKAGES}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            assert node.module in PACKAGES, "from the package's top"
            assert {name.name for name in node.names} <= set(PACKAGES[node.module].__all__)
        elif isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")


@NOTEBOOKS
def test_a_reader_changes_one_cell_for_their_own_data(path: Path) -> None:
    (cell,) = (cell for cell in code(path) if cell.source.startswith("# Your events"))
    assigned = {node.id for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}
    assert {"EVENTS", "ITEMS", "COLUMNS"} <= assigned
