"""TF.Text's ops, for graphs that tokenise: stock TensorFlow Serving links them, TensorFlow's wheel does not."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import tensorflow as tf

_log = logging.getLogger(__name__)


def register_text_ops() -> None:
    """Make TF.Text's ops known to TensorFlow. Again does no harm, nor does importing tensorflow_text later.

    The libraries are loaded without importing the package, which would import Keras.
    """
    if "tensorflow_text" in sys.modules:
        return
    spec = importlib.util.find_spec("tensorflow_text")
    if spec is None or not spec.submodule_search_locations:
        _log.warning("tensorflow-text is not installed: models that tokenise will not load.")
        return
    # Not resolved: TensorFlow knows a library by its path, and the package must find the ones loaded here.
    libraries = sorted(Path(spec.submodule_search_locations[0]).glob("python/*/_*.so"))
    for library in libraries:
        tf.load_op_library(str(library))
    if not libraries:
        importlib.import_module("tensorflow_text")  # its files have moved; it still knows where they are
