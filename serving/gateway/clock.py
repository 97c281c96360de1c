"""What time it is, for everything that is stored or shown; a simulation sets it. Caches have their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], int]  # microseconds since 1970, UTC


def wall_clock() -> int:
    """The machine's.

    Example:
        >>> from datetime import UTC, datetime
        >>> from serving import wall_clock
        >>> datetime.fromtimestamp(wall_clock() / 1e6, UTC).year > 2024
        True
    """
    return time.time_ns() // 1000
