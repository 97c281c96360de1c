"""API keys: made once, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from serving.events.errors import BadStore
from serving.events.store import Store
from serving.events.tables import KEYS

SCOPES = ("recommend", "events", "items", "users", "experiments", "models", "metrics")
_PREFIX = "belfry"


class Key(NamedTuple):
    """A key as it is stored. Times are microseconds since 1970."""

    key_id: str
    name: str
    hash: str
    scopes: frozenset[str]
    rate: float | None
    created_at: int
    revoked_at: int | None


def create_key(store: Store, name: str, scopes: Iterable[str], rate: float | None = None) -> tuple[str, str]:
    """Make a key of 256 random bits, and return its id and itself: it cannot be read again.

    Args:
        rate: Requests a second; None for the server's own limit.

    Raises:
        BadStore: A scope is not known, or there is none, or the rate is no number above 0.
        StoreAway: The database cannot be reached or written.
    """
    chosen = frozenset(scopes)
    unknown = sorted(chosen - set(SCOPES))
    if unknown or not chosen:
        raise BadStore(f"{unknown[0] if unknown else 'No scope'} is no scope of a key: {', '.join(SCOPES)}.")
    if rate is not None and not 0 < rate < math.inf:
        raise BadStore(f"A key's rate is a number of requests a second above 0, not {rate}.")
    # Hexadecimal, not base64: the parts are told apart by an underscore.
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    row = {"key_id": key_id, "name": name, "hash": _hash(secret), "scopes": " ".join(sorted(chosen)), "rate": rate}
    with store.writing() as connection:
        connection.execute(KEYS.insert(), row | {"created_at": time.time_ns() // 1000})
        store.count(connection, "keys")
    return key_id, f"{_PREFIX}_{key_id}_{secret}"


def list_keys(store: Store) -> list[Key]:
    """All keys, revoked ones too, the oldest first.

    Raises:
        StoreAway: The database cannot be reached.
    """
    with store.reading() as connection:
        rows = connection.execute(sa.select(KEYS).order_by(KEYS.c.created_at, KEYS.c.key_id)).all()
    return [Key(row[0], row[1], row[2], frozenset(row[3].split()), *row[4:]) for row in rows]


def revoke_key(store: Store, key_id: str) -> bool:
    """Let a key no longer count; whether there was one that did.

    Raises:
        StoreAway: The database cannot be reached or written.
    """
    revoking = KEYS.update().where(KEYS.c.key_id == key_id, KEYS.c.revoked_at.is_(None))
    with store.writing() as connection:
        found = connection.execute(revoking.values(revoked_at=time.time_ns() // 1000)).rowcount > 0
        store.count(connection, "keys")
    return found


class KeyRing:
    """The keys of a moment, to be asked for each request."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        keys = list(keys)
        self.any = bool(keys)  # a store whose keys are all revoked lets nobody in
        self._keys = {key.key_id: key for key in keys if key.revoked_at is None}

    def find(self, presented: str) -> Key | None:
        """The key that this is, if it counts."""
        prefix, _, rest = presented.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._keys.get(key_id)
        # Compared in any case, so that time does not tell whether an id exists.
        expected = key.hash if key else _hash("")
        good = hmac.compare_digest(_hash(secret), expected) and prefix == _PREFIX
        return key if good else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
