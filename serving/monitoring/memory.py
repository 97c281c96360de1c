"""What a monitor remembers from window to window: the references that later ones are compared with."""

from __future__ import annotations

import json

import sqlalchemy as sa

from serving.events import Store
from serving.events.log import ignoring_known
from serving.events.tables import MONITORS
from serving.monitoring.drift import FEWEST
from serving.monitoring.fingerprint import BadFingerprint, Fingerprint
from serving.monitoring.window import SECOND, Window

_KEPT = 8  # windows, so that one of the last can be observed again


def read_memory(store: Store, name: str) -> str | None:
    """What is remembered under a name.

    Raises:
        StoreAway: The database cannot be reached.
    """
    with store.reading() as connection:
        return connection.execute(sa.select(MONITORS.c.content).where(MONITORS.c.name == name)).scalar_one_or_none()


def remember(store: Store, name: str, content: str) -> str:
    """Remember something, unless there is something of that name; returns what is there then.

    Raises:
        StoreAway: The database cannot be written.
    """
    with store.writing() as connection:
        connection.execute(ignoring_known(store, MONITORS), {"name": name, "content": content})
        return str(connection.execute(sa.select(MONITORS.c.content).where(MONITORS.c.name == name)).scalar_one())


def live_reference(store: Store, window: Window, current: Fingerprint, skipped: list[str]) -> Fingerprint | None:
    """The first full window of the version that answers; None where this is it, or there is none yet."""
    if current.version is None:
        skipped.append("Against live: no model answered in this window.")
        return None
    name = f"reference:{current.model or ''}:{current.version}:{current.hours:g}"
    content = read_memory(store, name)
    if content is None:
        rows = max((each.rows for each in current.categories.values()), default=0)
        why = None
        if not _is_full(window, current.version):
            why = f"version {current.version} did not answer throughout"
        elif rows < FEWEST:
            why = f"it has {rows:,} users, which is too few ({FEWEST})"
        if why is not None:
            skipped.append(f"Against live: this window cannot be the reference, since {why}.")
            return None
        content = remember(store, name, json.dumps({"start": window.start, "fingerprint": current.dump()}))
    kept = json.loads(content)
    if kept["start"] == window.start:
        skipped.append(f"Against live: this window is the reference of version {current.version}.")
        return None
    return _parsed(kept["fingerprint"], "live", skipped)


def _is_full(window: Window, version: int) -> bool:
    """Whether there is traffic from the beginning, and a version made as many of the first and of the last tenth of the
    answers as it would, had it been there throughout."""
    mine = window.version[window.version >= 0] == version
    tenth = max(1, len(mine) // 10)
    least = mine.mean() / 2
    early = window.at[0] - window.start < (window.end - window.start) / 10
    return bool(early and mine[:tenth].mean() >= least and mine[-tenth:].mean() >= least)


def window_before(store: Store, window: Window, skipped: list[str]) -> Fingerprint | None:
    """The window before this one; None where it was not observed."""
    length = window.end - window.start
    content = read_memory(store, _name(length, window.start - length))
    if content is None:
        skipped.append("Against before: the window before this one was not observed.")
    return None if content is None else _parsed(content, "before", skipped)


def keep_window(store: Store, window: Window, current: Fingerprint) -> None:
    """Remember a window in place of what is remembered of it, and forget those that are long over.

    Raises:
        StoreAway: The database cannot be written.
    """
    length = window.end - window.start
    name, oldest = _name(length, window.start), _name(length, window.start - _KEPT * length)
    prefix = _name(length)
    with store.writing() as connection:
        store.take_turns(connection, MONITORS)
        there = connection.execute(sa.select(MONITORS.c.name).where(MONITORS.c.name.like(f"{prefix}%"))).scalars()
        # Compared here: a database may order text otherwise.
        gone = [each for each in there if each.startswith(prefix) and (each == name or each < oldest)]
        connection.execute(MONITORS.delete().where(MONITORS.c.name.in_(gone)))
        connection.execute(MONITORS.insert(), {"name": name, "content": current.dump()})


def _name(length: int, start: int | None = None) -> str:
    # With leading zeros, so that names are in the order of time.
    return f"window:{length // SECOND}:" + ("" if start is None else f"{max(0, start):020}")


def _parsed(content: str, role: str, skipped: list[str]) -> Fingerprint | None:
    try:
        return Fingerprint.parse(content)
    except BadFingerprint as error:
        skipped.append(f"Against {role}: {error}")
        return None
