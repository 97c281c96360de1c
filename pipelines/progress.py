"""Progress that suits where it is shown: a bar with the time left on a terminal, plain lines elsewhere.

Everything goes to standard error, so that `--json` output stays alone on standard output.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
_LINE_EVERY_SECONDS = 10.0


def say(text: str) -> None:
    """One line for the reader."""
    print(text, file=sys.stderr, flush=True)


def track(steps: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield from `steps` and show how far they are."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(steps, what, total=total, console=Console(stderr=True), transient=True)
        return
    start = shown = time.monotonic()
    for done, step in enumerate(steps, start=1):
        yield step
        now = time.monotonic()
        if now - shown >= _LINE_EVERY_SECONDS and done < total:
            shown = now
            left = (now - start) / done * (total - done)
            say(f"{what}: {done:,} of {total:,}, about {left:.0f} s left")
