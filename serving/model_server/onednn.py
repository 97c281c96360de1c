"""Which kernels TensorFlow computes with, which it decides once: when it loads."""

from __future__ import annotations

import os

_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


def load_with_onednn(on: bool) -> None:
    """Import TensorFlow with oneDNN or without it, unless the environment says; nothing where it is loaded already.

    With it, large products are several times as fast; its allocator keeps what an unloaded version used. The
    environment is left as it was: processes that this one starts have reasons of their own.
    """
    silent = _VARIABLE not in os.environ
    os.environ.setdefault(_VARIABLE, str(int(on)))
    try:
        import tensorflow  # noqa: F401
    finally:
        if silent:
            del os.environ[_VARIABLE]
