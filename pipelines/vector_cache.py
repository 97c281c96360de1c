"""Vectors that were computed once, on disk, each by what it was computed from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pipelines.errors import BadInput

_KEY_BYTES = 20
_AT_ONCE = 500  # keys of one query


def cache_folder() -> Path:
    """Where computed vectors are kept: $BELFRY_CACHE, else the user's cache folder."""
    own = os.environ.get("BELFRY_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "belfry"


def key_of(*parts: bytes) -> bytes:
    """A key of what a vector is computed from."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def kept_vectors(
    kind: str,
    version: str,
    keys: Sequence[bytes],
    make: Callable[[np.ndarray], Iterable[tuple[np.ndarray, np.ndarray]]],
) -> dict[bytes, np.ndarray]:
    """The vectors (T,) float32 of N distinct keys: those that are kept, and those that `make` now computes.

    What `make` yields is written at once, so that work which is killed goes on where it was. Several processes may be
    at it; what two compute, one of them keeps.

    Args:
        kind, version: Name the encoder, its weights and settings, so that vectors of two are never mixed.
        keys: Of `key_of`.
        make: From the places in `keys` of what is missing, at least one, to places (M,) and their vectors (M, T), a
            few at a time; what it leaves out is not kept and not returned.

    Raises:
        BadInput: The file is broken, or cannot be written.
    """
    path = cache_folder() / kind / f"{hashlib.sha256(version.encode()).hexdigest()[:24]}.sqlite"
    with _opened(path) as file:
        found = _read(file, keys)
        missing = np.array([place for place, key in enumerate(keys) if key not in found], np.int64)
        for places, vectors in make(missing) if len(missing) else ():
            if not np.isfinite(vectors).all():
                raise AssertionError("the encoder returned values that are not finite")
            made = {keys[place]: vector for place, vector in zip(places, vectors.astype(np.float32), strict=True)}
            with file:
                rows = [(key, vector.tobytes()) for key, vector in made.items()]
                file.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
            found |= made
    return found


def _read(file: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
    found: dict[bytes, np.ndarray] = {}
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        rows = file.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", list(some))
        found |= {key: np.frombuffer(vector, np.float32) for key, vector in rows}
    return found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=60.0)) as file:
            # Readers and a writer at once; a kill loses at most what was being written.
            file.execute("PRAGMA journal_mode=WAL")
            file.execute("PRAGMA synchronous=NORMAL")
            file.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
            )
            yield file
    except sqlite3.DatabaseError as error:
        raise BadInput(
            f"the cache {path} cannot be used ({error}): remove it, or set BELFRY_CACHE to another."
        ) from None
