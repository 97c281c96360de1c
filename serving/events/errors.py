"""What a store can fail with."""

from __future__ import annotations


class StoreError(Exception):
    """The message is one sentence.

    Its kinds are BadStore, StoreAway and StoreBusy.

    Example:
        >>> from serving import Store, StoreError
        >>> try:
        ...     Store("nowhere", create=False)
        ... except StoreError as error:
        ...     print("nowhere" in str(error))
        True
    """


class BadStore(StoreError):
    """What was given is no store, or one of a newer Belfry."""


class StoreAway(StoreError):
    """The database cannot be reached, or cannot write: its disk is full. Nothing was written."""


class StoreBusy(StoreError):
    """More is waiting to be written than is kept in memory. Nothing was taken."""
