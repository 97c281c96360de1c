"""The API reference is made of the docstrings, and has every exported name."""

from __future__ import annotations

import importlib
import re
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "reference.py"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    runpy.run_path(str(SCRIPT))["write_reference"](folder)
    return folder


@pytest.mark.parametrize("package", ["pipelines", "towers", "serving"])
def test_every_name_has_its_place(package: str, reference: Path) -> None:
    page = (reference / f"{package}.html").read_text(encoding="utf-8")
    missing = [name for name in importlib.import_module(package).__all__ if f'id="{name}"' not in page]
    assert not missing
    # Sections of a docstring are headings and code is code, not one run of text.
    assert re.search(r"<h6[^>]*>Arguments:</h6>", page)
    assert "&gt;&gt;&gt;" in page
