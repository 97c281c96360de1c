"""Memory that goes back to the system, where the C library is glibc."""

from __future__ import annotations

import ctypes
import logging

_log = logging.getLogger(__name__)
_M_ARENA_MAX = -8
_ARENAS = 2


def few_arenas() -> None:
    """Let all threads of this process allocate from a few heaps; to be called before there are many threads.

    glibc gives each thread a heap of its own, up to eight for each core. Requests of all sizes leave holes in every one
    of them, which `return_memory` cannot give back.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
    except (AttributeError, OSError, TypeError):
        _log.debug("This C library has no mallopt.")


def return_memory() -> None:
    """Give freed memory back: glibc keeps freed blocks for later, and after a swap that is a whole model."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        _log.debug("This C library has no malloc_trim; freed memory returns when it sees fit.")
