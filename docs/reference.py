"""The API reference as HTML: what the packages export, from their docstrings.

    python docs/reference.py build/reference

Pages come from pdoc. Whatever it warns of is an error here: a name that does not resolve would be left out in silence.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

PACKAGES = ("pipelines", "towers", "serving")


def write_reference(out: Path) -> None:
    """Write a page for each package, an index and a search into the folder `out`."""
    import pdoc

    for name in PACKAGES:
        package = importlib.import_module(name)
        # pdoc sees what is in a module, not what a module would import when asked.
        vars(package).update({export: getattr(package, export) for export in package.__all__})
    pdoc.render.configure(docformat="google", show_source=False, search=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pdoc.pdoc(*PACKAGES, output_directory=out)


if __name__ == "__main__":
    write_reference(Path(sys.argv[1] if len(sys.argv) > 1 else "build/reference"))
