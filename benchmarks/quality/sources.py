"""Where the public data lies. It is never distributed with Belfry and never copied into it."""

from __future__ import annotations

import os
from pathlib import Path


class NotHere(Exception):
    """A data set is not on this machine; the message says how to change that."""


def source(name: str) -> Path:
    """The folder of a data set below $BELFRY_DATA.

    Raises:
        NotHere: It is not there.
    """
    root = os.environ.get("BELFRY_DATA")
    folder = Path(root) / name if root else None
    if folder is None or not folder.is_dir():
        raise NotHere(f"left out: set BELFRY_DATA to a folder that holds {name} (not distributed with Belfry)")
    return folder
