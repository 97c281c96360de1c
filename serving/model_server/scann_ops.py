"""ScaNN's ops, for graphs whose index is approximate: no stock TensorFlow Serving links them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import tensorflow as tf

from serving.model_server.errors import Code, ServingError

_PREFIX = b"Scann>"


def register_scann_ops(folder: Path) -> None:
    """Make ScaNN's ops known to TensorFlow if the SavedModel in `folder` has some. Again does no harm.

    Raises:
        ServingError: It does, and the package is not installed.
    """
    try:
        if "scann" in sys.modules or _PREFIX not in (folder / "saved_model.pb").read_bytes():
            return
    except OSError:
        return  # loading says what is wrong
    spec = importlib.util.find_spec("scann")
    if spec is None or not spec.submodule_search_locations:
        raise ServingError(Code.FAILED_PRECONDITION, f"{folder} needs the ops of ScaNN: pip install 'belfry[scann]'.")
    for library in sorted(Path(spec.submodule_search_locations[0]).glob("*_ops/cc/_*.so")):
        tf.load_op_library(str(library))
