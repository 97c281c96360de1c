"""Monitoring as a step: observe what is due, judge it, and start a retraining where a rule asks for one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.errors import BadInput
from pipelines.progress import say
from serving.events import Store, StoreAway, StoreError
from serving.gateway.clock import wall_clock
from serving.monitoring.fingerprint import IN_VERSION, Fingerprint
from serving.monitoring.measures import Measure
from serving.monitoring.monitor import due_windows, observe
from serving.monitoring.records import Measured, evaluate_rules, last_window, read_state, unjudged_windows
from serving.monitoring.rules import BadRules, Rules
from serving.monitoring.triggers import Fired
from serving.monitoring.vectors import Embedder
from serving.monitoring.window import SECOND

_POLL_SECONDS = 60.0
ANOTHER_RUNS = 3  # the exit code of `belfry retrain` while another one is at work


@dataclass(frozen=True)
class MonitoredWindow:
    """One window, as it was just observed, or else as it is stored; times are microseconds since 1970.

    Args:
        start, end: Microseconds since 1970.
        measures: Every number, with its variant, slice, interval and count; drift is among them.
        skipped: Sentences on what could not be compared, and why.
        fired: What the rules raised or cleared now.
        raised: Rules that are raised after it.
        retrained: What became of a retraining that a rule asked for; None where none did.

    Example:
        >>> from pipelines import MonitoredWindow
        >>> MonitoredWindow(0, 3_600_000_000, measures=[], skipped=[], fired=[], raised=[]).retrained is None
        True
    """

    start: int
    end: int
    measures: list[Measure]
    skipped: list[str]
    fired: list[Fired]
    raised: list[str]  # rules
    retrained: str | None = None  # what became of it


@dataclass(frozen=True)
class RetrainCommand:
    """How `belfry retrain` is called.

    Args:
        store: A folder or URL.
        models: The folder with MODELS/NAME/VERSION.
        model: Its name.
        work: Its working folder.
        recipe: Instead of the champion's.

    Example:
        >>> from pipelines import RetrainCommand
        >>> RetrainCommand("store", "models", "news", work="retraining").command[-2:]
        ['--work', 'retraining']
    """

    store: Path | str
    models: Path | str
    model: str
    work: Path | str
    recipe: Path | str | None = None

    @property
    def command(self) -> list[str]:
        """An argument each: no shell reads it."""
        command = [sys.executable, "-c", "from pipelines.cli import main; main()", "retrain"]
        command += ["--store", str(self.store), "--models", str(self.models)]
        command += ["--model", self.model, "--work", str(self.work)]
        return command + ([] if self.recipe is None else ["--recipe", str(self.recipe)])


@dataclass(frozen=True)
class Watched:
    """What is monitored, and with what.

    Args:
        store: A folder or URL.
        models: Where fingerprints are, in MODELS/NAME/VERSION; None for no training reference.
        model: Its name; by default whatever answered.
        model_server: `grpc://host:port`, to compare embeddings; needs `model`.
        hours: The length of a window.
        retraining: What a rule with the action `retrain` starts; None to tell only.
        rules: A file, or the rules themselves; the shipped ones by default.
        positive_rating: Ratings below it are not wanted.

    Example:
        >>> from pipelines import Watched
        >>> Watched("store", models="models", model="news").hours
        24.0
    """

    store: Path | str
    models: Path | str | None = None
    model: str | None = None
    model_server: str | None = None
    hours: float = 24.0
    rules: Rules | Path | str | None = None
    positive_rating: float | None = None
    retraining: RetrainCommand | None = None


def monitor(
    watched: Watched, stop: threading.Event | None = None, *, clock: Callable[[], int] = wall_clock
) -> Iterator[MonitoredWindow]:
    """Observe and judge every window that is due, the oldest first.

    Args:
        watched: What, and with what.
        stop: Set to end early; a retraining that is under way is ended.
        clock: The time, in microseconds since 1970.

    Raises:
        BadInput: The store or the rules cannot be read.

    Example:
        >>> from pipelines import Watched, monitor
        >>> list(monitor(Watched("store", models="models", model="news", hours=1)))  # no answer was given yet
        []
    """
    with _opened(watched) as (store, rules, embedder):
        yield from _look(watched, store, rules, embedder, stop or threading.Event(), clock)


def watch(watched: Watched, stop: threading.Event, *, clock: Callable[[], int]) -> Iterator[MonitoredWindow]:
    """The same until `stop` is set. A store that is away is asked again.

    Raises:
        BadInput: As for `monitor`, at the beginning.
    """
    with _opened(watched) as (store, rules, embedder):
        say(f"watching: every {watched.hours:g} hours of traffic are measured an hour after their end")
        while not stop.is_set():
            try:
                yield from _look(watched, store, rules, embedder, stop, clock)
            except StoreAway as error:
                say(f"{error} Trying again.")
            stop.wait(_POLL_SECONDS)


def stored(watched: Watched) -> MonitoredWindow | None:
    """The last window that is stored; None where there is none.

    Raises:
        BadInput: The store cannot be read.
    """
    with _opened(watched) as (store, _, _):
        seconds = round(watched.hours * 3_600)
        last = last_window(store, seconds)
        if last is None:
            return None
        return MonitoredWindow(*last, skipped=[], fired=[], raised=read_state(store, seconds).raised)


@contextlib.contextmanager
def _opened(watched: Watched) -> Iterator[tuple[Store, Rules, Embedder | None]]:
    if watched.model_server is not None and watched.model is None:
        raise BadInput("name the model with --model: the server may have several.")
    try:
        rules = watched.rules or Rules()
        rules = rules if isinstance(rules, Rules) else Rules.load(rules)
        with contextlib.ExitStack() as opened:
            store = opened.enter_context(Store(watched.store, create=False))
            embedder = None
            if watched.model_server is not None and watched.model is not None:
                embedder = opened.enter_context(Embedder(watched.model_server, watched.model))
            yield store, rules, embedder
    except (StoreError, BadRules) as error:
        raise BadInput(str(error)) from None


def _look(
    watched: Watched,
    store: Store,
    rules: Rules,
    embedder: Embedder | None,
    stop: threading.Event,
    clock: Callable[[], int],
) -> Iterator[MonitoredWindow]:
    # First those that a look which ended early, or lost the store, has stored and told nobody of.
    for left in unjudged_windows(store, round(watched.hours * 3_600)):
        if stop.is_set():
            return
        yield _judge(watched, store, rules, left, [], stop, clock)
    for start, end in due_windows(store, clock(), hours=watched.hours):
        if stop.is_set():
            return
        seen = observe(
            store,
            start,
            end,
            fingerprint=lambda model, version: _fingerprint(watched, model, version),
            model=watched.model,
            embed=embedder,
            positive_rating=watched.positive_rating,
        )
        yield _judge(watched, store, rules, seen, seen.skipped, stop, clock)


def _judge(
    watched: Watched,
    store: Store,
    rules: Rules,
    seen: Measured,
    skipped: list[str],
    stop: threading.Event,
    clock: Callable[[], int],
) -> MonitoredWindow:
    """Judge a window that is stored, and do what the rules ask for."""
    fired = evaluate_rules(store, rules, seen, clock())
    raised = read_state(store, (seen.end - seen.start) // SECOND).raised
    look = MonitoredWindow(seen.start, seen.end, seen.measures, skipped, fired, raised)
    wanted = any(each.state == "raised" and each.action == "retrain" for each in fired)
    if wanted and watched.retraining is not None:
        look = replace(look, retrained=_retrain(watched.retraining, stop))
    return look


def _fingerprint(watched: Watched, model: str, version: int) -> Fingerprint | None:
    if watched.models is None:
        return None
    path = Path(watched.models) / (watched.model or model) / str(version) / IN_VERSION
    # A version may be older than fingerprints, or be somebody else's.
    return Fingerprint.load(path) if path.exists() else None


def _retrain(retraining: RetrainCommand, stop: threading.Event) -> str:
    """Retrain in a process of its own, and say what became of it."""
    began = time.monotonic()
    say(f"retraining {retraining.model} in {retraining.work}")
    with subprocess.Popen(retraining.command, stdout=sys.stderr) as process:
        while process.poll() is None and not stop.wait(0.5):
            pass
        if process.poll() is None:
            process.terminate()
            process.wait()
            return "stopped"
    if process.returncode == ANOTHER_RUNS:
        return "another retraining is running"
    if process.returncode:
        return f"failed with exit code {process.returncode}; the rule asks again after its cool-down"
    return f"done in {time.monotonic() - began:.0f} s"
