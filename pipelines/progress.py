"""Progress that suits where it is shown: a bar with the time left on a terminal, plain lines elsewhere.

Everything goes to standard error, so that `--json` output stays alone on standard output. Bars that begin while
another is shown stand below it. A terminal that cannot move its cursor (TERM=dumb) gets plain lines, and NO_COLOR takes
the colours away.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

Item = TypeVar("Item")
_LINE_EVERY_SECONDS = 10.0

# The display that is on, a `rich.progress.Progress`: a terminal has room for one.
_display: Any = None


def say(text: str) -> None:
    """One line for the reader, above what bars there are."""
    if _display is not None:
        _display.console.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        print(text, file=sys.stderr, flush=True)


def track(steps: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield from `steps` and show how far they are."""
    if _is_terminal():
        with _bar(what, total) as advance:
            for step in steps:
                yield step
                advance(what, 1)
        return
    start = shown = time.monotonic()
    for done, step in enumerate(steps, start=1):
        yield step
        now = time.monotonic()
        if now - shown >= _LINE_EVERY_SECONDS and done < total:
            shown = now
            left = (now - start) / done * (total - done)
            say(f"{what}: {done:,} of {total:,}, about {left:.0f} s left")


@contextlib.contextmanager
def stages(what: str, shares: Mapping[str, float]) -> Iterator[Callable[[str], None]]:
    """Show which stage of some work is on; yields what is to be called with the name of a stage when that begins.

    Where there is no bar, a stage gets a line if there was none for ten seconds.

    Args:
        what: Of the whole.
        shares: How long each stage takes beside the others, in their order; one may be left out.
    """
    shown = time.monotonic()
    names = list(shares)
    if not _is_terminal():

        def line(stage: str) -> None:
            nonlocal shown
            place, now = names.index(stage), time.monotonic()
            if now - shown >= _LINE_EVERY_SECONDS:
                shown = now
                say(f"{what}: {stage}, {place + 1} of {len(names)}")

        yield line
        return
    with _bar(what, sum(shares.values())) as advance:
        done = 0.0

        def begin(stage: str) -> None:
            nonlocal done
            before = sum(shares[name] for name in names[: names.index(stage)])
            advance(f"{what}: {stage}", before - done)
            done = before

        yield begin


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


@contextlib.contextmanager
def _bar(what: str, total: float) -> Iterator[Callable[[str, float], None]]:
    """A bar on the display, which it opens where there is none; yields what moves it on and says what it shows."""
    global _display
    if _display is not None:
        task = _display.add_task(what, total=total)
        try:
            yield lambda text, by: _display.update(task, description=text, advance=by)
        finally:
            if _display is not None:
                _display.remove_task(task)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    shown = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True),
        transient=True,
    )
    with shown:
        _display = shown
        try:
            task = shown.add_task(what, total=total)
            yield lambda text, by: shown.update(task, description=text, advance=by)
        finally:
            _display = None
